import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authn.appraisal import Measured
from authn.errors import AttestationError
from authn.event_log import EV_IPL, EV_NO_ACTION, LogEvent, build_event_log, parse_event_log, replay
from authn.failure import AttestationFailure
from authn.pcr import HashAlg, PcrSelection, extend
from authn.profile import Profile
from authn.reference import ReferenceEvent, ReferenceSet, check_reference


def event(pcr: int, text: str, kind: int = EV_IPL) -> LogEvent:
    return LogEvent(pcr, kind, hashlib.sha256(text.encode()).digest(), text.encode())


EVENTS = (event(4, "loader"), event(4, "kernel"), event(7, "policy"))
LOG = build_event_log(EVENTS)
PROFILE = Profile.of("p", {4: "boot", 7: "secure-boot"})
SET = ReferenceSet(
    3, 1000.0,
    {"boot": tuple(ReferenceEvent(one.described, one.digest) for one in EVENTS[:2]), "secure-boot": (ReferenceEvent("policy", EVENTS[2].digest),)},
)  # fmt: skip


def test_what_is_built_is_parsed() -> None:
    assert parse_event_log(LOG) == EVENTS


def test_replay_extends_in_order() -> None:
    values = replay(EVENTS, PROFILE.selection)
    first = extend(HashAlg.SHA256, bytes(32), EVENTS[0].digest)
    assert values[4] == extend(HashAlg.SHA256, first, EVENTS[1].digest)
    assert replay(tuple(reversed(EVENTS)), PROFILE.selection)[4] != values[4]


def test_event_types_change_nothing_but_no_action_extends_nothing() -> None:
    retyped = (event(4, "loader", 0x80000003), *EVENTS[1:])
    assert replay(retyped, PROFILE.selection) == replay(EVENTS, PROFILE.selection)
    ignored = (event(4, "x", EV_NO_ACTION), *EVENTS)
    assert replay(ignored, PROFILE.selection) == replay(EVENTS, PROFILE.selection)


def test_pcr_0_begins_at_its_startup_locality() -> None:
    locality = LogEvent(0, EV_NO_ACTION, bytes(32), b"StartupLocality\0\x03")
    assert replay((locality,), PcrSelection.of([0]))[0] == bytes(31) + b"\x03"


def test_rejects_every_truncation() -> None:
    whole = {len(build_event_log(EVENTS[:count])) for count in range(4)}
    for length in range(len(LOG)):
        if length in whole:
            continue
        with pytest.raises(AttestationError) as caught:
            parse_event_log(LOG[:length])
        assert caught.value.failure is AttestationFailure.MALFORMED_EVENT_LOG


@pytest.mark.parametrize("at", [0, 32, 60])
def test_rejects_absurd_lengths(at: int) -> None:
    broken = bytearray(LOG)
    struct.pack_into("<I", broken, at, 0xFFFFFFFF)
    if at == 0:  # the header event's PCR is not looked at
        assert parse_event_log(bytes(broken)) == EVENTS
        return
    with pytest.raises(AttestationError):
        parse_event_log(bytes(broken))


@given(st.binary(max_size=400))
def test_any_bytes_give_events_or_a_clear_refusal(data: bytes) -> None:
    for log in (data, LOG[:65] + data):
        try:
            parse_event_log(log)
        except AttestationError as error:
            assert error.failure is AttestationFailure.MALFORMED_EVENT_LOG


def test_good_values_match_their_reference() -> None:
    check_reference(PROFILE, Measured(EVENTS, (), replay(EVENTS, PROFILE.selection)), [SET], now=1.0)


def test_a_mismatch_is_explained_by_its_event() -> None:
    bad = (EVENTS[0], event(4, "evil kernel"), EVENTS[2])
    with pytest.raises(AttestationError, match="PCR 4: kernel differs: expected") as caught:
        check_reference(PROFILE, Measured(bad, (), replay(bad, PROFILE.selection)), [SET], now=1.0)
    assert caught.value.failure is AttestationFailure.REFERENCE_MISMATCH
    assert caught.value.params["got"] == bad[1].digest.hex()


def test_rejects_expired_references() -> None:
    with pytest.raises(AttestationError) as caught:
        check_reference(PROFILE, Measured(EVENTS, (), replay(EVENTS, PROFILE.selection)), [SET], now=1001.0)
    assert caught.value.failure is AttestationFailure.REFERENCE_EXPIRED


def test_several_sets_are_valid_during_a_roll_out() -> None:
    newer = ReferenceSet(4, 1000.0, {"boot": (), "secure-boot": ()})
    check_reference(PROFILE, Measured(EVENTS, (), replay(EVENTS, PROFILE.selection)), [newer, SET], now=1.0)
    check_reference(PROFILE, Measured((), (), replay((), PROFILE.selection)), [newer, SET], now=1.0)


def test_values_are_never_mixed_from_two_sets() -> None:
    half = (*EVENTS[:2],)
    sets = [SET, ReferenceSet(4, 1000.0, {"boot": (), "secure-boot": ()})]
    with pytest.raises(AttestationError):
        check_reference(PROFILE, Measured(half, (), replay(half, PROFILE.selection)), sets, now=1.0)


def test_rejects_an_unmeasured_pcr_where_the_profile_demands_it() -> None:
    profile = Profile("vm", PROFILE.selection, PROFILE.references, require_nonzero=True)
    with pytest.raises(AttestationError) as caught:
        check_reference(profile, Measured((), (), replay((), PROFILE.selection)), [SET], now=1.0)
    assert caught.value.failure is AttestationFailure.ZERO_PCR


@pytest.mark.parametrize("index", [16, 23])
def test_rejects_a_profile_with_a_resettable_pcr(index: int) -> None:
    with pytest.raises(Exception, match="can be reset by the guest"):
        Profile.of("p", {index: "x"})
