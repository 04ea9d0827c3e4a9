"""Reference values: what is good, what is not, and why."""

import hashlib

import pytest

from authn.appraisal import Measured
from authn.errors import AttestationError
from authn.event_log import EV_IPL, LogEvent, replay
from authn.failure import NOT_THE_PEERS_FAULT, AttestationFailure
from authn.profile import Profile
from authn.reference import ReferenceEvent, ReferenceSet, _refusal, check_reference


def event(pcr: int, text: str) -> LogEvent:
    return LogEvent(pcr, EV_IPL, hashlib.sha256(text.encode()).digest(), text.encode())


EVENTS = (event(4, "loader"), event(4, "kernel"), event(7, "policy"))
PROFILE = Profile.of("p", {4: "boot", 7: "secure-boot"})
SET = ReferenceSet(
    3, 1000.0,
    {"boot": tuple(ReferenceEvent(one.described, one.digest) for one in EVENTS[:2]), "secure-boot": (ReferenceEvent("policy", EVENTS[2].digest),)},
)  # fmt: skip


def test_good_values_match_their_reference() -> None:
    check_reference(PROFILE, Measured(EVENTS, (), replay(EVENTS, PROFILE.selection)), [SET], now=1.0)


MISMATCHES = {
    "another event": ((EVENTS[0], event(4, "evil kernel"), EVENTS[2]), "PCR 4: kernel differs: expected"),
    "an event more": (
        (*EVENTS[:2], event(4, "evil"), EVENTS[2]),
        "PCR 4: evil differs: expected no further event",
    ),
    "an event less": ((EVENTS[0], EVENTS[2]), "PCR 4: kernel differs: .* got no further event"),
    "another order": ((EVENTS[1], EVENTS[0], EVENTS[2]), "PCR 4: loader differs"),
    "another PCR": (EVENTS[:2], "PCR 7: policy differs"),
    "an image as a whole and in its part": (
        (EVENTS[0], event(4, "evil kernel"), event(7, "another policy")),
        "^PCR 4: kernel differs: expected [0-9a-f]{64}, got [0-9a-f]{64}; PCR 7: policy differs: expected [0-9a-f]{64}",
    ),
    "an image beside another's newer set": (
        (EVENTS[0], event(4, "evil kernel"), EVENTS[2]),
        "^PCR 4: kernel differs",
    ),
    "values mixed from two sets": (EVENTS[:2], "PCR 7: policy differs"),
    "an image beside a newer set that has half of its values": (
        (EVENTS[0], event(4, "evil kernel"), EVENTS[2]),
        "^PCR 4: kernel differs",
    ),
}


@pytest.mark.parametrize("how", MISMATCHES)
def test_rejects_reference_mismatch(how: str) -> None:
    """The refusal explains itself: which PCR, which event, expected, got."""
    bad, says = MISMATCHES[how]
    more = {
        "mixed": ReferenceSet(2, 1000.0, {"boot": (), "secure-boot": ()}),
        "beside": ReferenceSet(9, 1000.0, {"another-image": ()}),
        "half": ReferenceSet(8, 1000.0, {"boot": ()}),
    }
    sets = [SET, *(one for word, one in more.items() if word in how)]
    with pytest.raises(AttestationError, match=says) as caught:
        check_reference(PROFILE, Measured(bad, (), replay(bad, PROFILE.selection)), sets, now=1.0)
    assert caught.value.failure is AttestationFailure.REFERENCE_MISMATCH


@pytest.mark.parametrize(("pcr", "name"), [(7, "typo"), (10, "ima:typo")])
def test_a_value_that_a_set_has_not_is_not_held_against_the_peer(pcr: int, name: str) -> None:
    values = {**replay(EVENTS, PROFILE.selection), 10: bytes(32)}
    refusal = _refusal(Profile.of("p", {4: "boot", pcr: name}), Measured(EVENTS, (), values), SET)
    assert refusal is not None
    assert refusal.message.startswith(f"PCR {pcr}: the reference set that fits best has no value named typo")
    assert refusal.failure is AttestationFailure.UNKNOWN_REFERENCE
    assert refusal.failure in NOT_THE_PEERS_FAULT


@pytest.mark.parametrize(
    ("measured", "more"),
    [(EVENTS, ()), ((event(4, "evil"),), (ReferenceSet(9, 2000.0, {"boot": ()}),))],
    ids=["good", "beside a valid set that has half of its values"],
)
def test_rejects_expired_references(measured: tuple[LogEvent, ...], more: tuple[ReferenceSet, ...]) -> None:
    shown = Measured(measured, (), replay(measured, PROFILE.selection))
    with pytest.raises(AttestationError) as caught:
        check_reference(PROFILE, shown, [SET, *more], now=1001.0)
    assert caught.value.failure is AttestationFailure.REFERENCE_EXPIRED


def test_several_sets_are_valid_during_a_roll_out() -> None:
    newer = ReferenceSet(4, 1000.0, {**SET.values, "boot": SET.values["boot"][:1]})
    for events in (EVENTS, (EVENTS[0], EVENTS[2])):
        check_reference(
            PROFILE, Measured(events, (), replay(events, PROFILE.selection)), [newer, SET], now=1.0
        )


def test_rejects_a_firmware_pcr_that_was_never_measured_into() -> None:
    empty = ReferenceSet(4, 1000.0, {"boot": (), "secure-boot": ()})  # it has nothing against that
    with pytest.raises(AttestationError) as caught:
        check_reference(PROFILE, Measured((), (), replay((), PROFILE.selection)), [empty], now=1.0)
    assert caught.value.failure is AttestationFailure.ZERO_PCR
