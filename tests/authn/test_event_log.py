import hashlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authn.errors import AttestationError
from authn.event_log import (
    EV_IPL,
    EV_NO_ACTION,
    MAX_EVENTS,
    LogEvent,
    build_event_log,
    parse_event_log,
    replay,
)
from authn.failure import AttestationFailure
from authn.pcr import HashAlg, PcrSelection, extend
from authn.profile import Profile
from authn.reference import ReferenceEvent, ReferenceSet
from tests.authn import recordings


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


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"kernel", "kernel"),
        (b"kernel\0", "kernel"),
        ("quiet a=1".encode("utf-16-le") + b"\0\0", "quiet a=1"),
        (bytes(4), ""),
        (b"\xff\xfe\x00", "fffe"),
        ("\u202eevil".encode(), "e280ae6576696c"),
        (b"a\nb", "610a62"),
        (b"x" * 5000, "x" * 200),
    ],
)
def test_what_an_event_says_is_shown_as_text_where_it_is_some(data: bytes, text: str) -> None:
    assert LogEvent(4, EV_IPL, bytes(32), data).described == text


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


@pytest.mark.parametrize("at", [0, 28, 60])
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


@pytest.mark.parametrize("index", [16, 23])
def test_rejects_a_profile_with_a_resettable_pcr(index: int) -> None:
    with pytest.raises(Exception, match="can be reset by the guest"):
        Profile.of("p", {index: "x"})


def refused() -> "pytest.RaisesExc[AttestationError]":
    malformed = AttestationFailure.MALFORMED_EVENT_LOG
    return pytest.raises(AttestationError, check=lambda error: error.failure is malformed)


HEADER = len(build_event_log([]))
FIRST = struct.Struct("<IIIH")  # PCR, type, number of digests, algorithm


def _altered(**fields: int) -> bytes:
    log = bytearray(LOG)
    names = ("pcr", "kind", "count", "algorithm")
    values = dict(zip(names, FIRST.unpack_from(log, HEADER), strict=True)) | fields
    FIRST.pack_into(log, HEADER, *(values[name] for name in names))
    return bytes(log)


def test_rejects_a_pcr_that_does_not_exist() -> None:
    with refused():
        parse_event_log(_altered(pcr=24))


def test_rejects_a_log_without_its_header() -> None:
    with refused():
        parse_event_log(LOG.replace(b"Spec ID Event03", b"Spec ID Event02"))


def _two_banks(second: int, sizes: tuple[int, int], digests: tuple[int, int]) -> bytes:
    """Write a log with two algorithms in its header and one event."""
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 2)
    spec += struct.pack("<HHHHB", HashAlg.SHA256, sizes[0], second, sizes[1], 0)
    event = struct.pack("<III", 4, 0x0D, 2)
    for algorithm, size in zip(digests, sizes, strict=True):
        event += struct.pack("<H", algorithm) + bytes(size)
    return struct.pack("<II20sI", 0, 3, bytes(20), len(spec)) + spec + event + struct.pack("<I", 0)


def test_takes_a_log_with_two_banks() -> None:
    log = _two_banks(HashAlg.SHA1, (32, 20), (HashAlg.SHA256, HashAlg.SHA1))
    assert parse_event_log(log) == (LogEvent(4, 0x0D, bytes(32), b""),)


def test_rejects_another_number_of_digests() -> None:
    """One digest less than the header names; the rest of the bytes is well-formed."""
    log = _two_banks(HashAlg.SHA1, (32, 20), (HashAlg.SHA256, HashAlg.SHA1))
    short = log[: -4 - 22].replace(struct.pack("<III", 4, 0x0D, 2), struct.pack("<III", 4, 0x0D, 1)) + bytes(
        4
    )
    with refused():
        parse_event_log(short)


def test_rejects_a_digest_twice() -> None:
    with refused():
        parse_event_log(
            _two_banks(HashAlg.SHA384, (32, 48), (HashAlg.SHA256, HashAlg.SHA256))[: -4 - 16] + bytes(4)
        )


def test_rejects_a_digest_of_another_width() -> None:
    with refused():
        parse_event_log(_two_banks(HashAlg.SHA1, (31, 20), (HashAlg.SHA256, HashAlg.SHA1)))


def test_rejects_a_log_that_is_padded_with_what_no_pcr_shows() -> None:
    """Such events verify, and the parsing of each keeps others waiting."""
    full = (*EVENTS, *[event(4, "x", EV_NO_ACTION)] * (2048 - len(EVENTS)))
    assert len(parse_event_log(build_event_log(full))) == 2048
    with refused() as caught:
        parse_event_log(build_event_log((*full, event(4, "x", EV_NO_ACTION))))
    assert "2048" in caught.value.message


@pytest.mark.parametrize("path", sorted(recordings.RECORDED.glob("*.json.gz")), ids=lambda path: path.name)
def test_a_real_boots_log_is_far_from_the_limit(path: Path) -> None:
    for layer in recordings.load(path.name.removesuffix(".json.gz")).layers:
        assert 0 < len(parse_event_log(layer.event_log)) < MAX_EVENTS / 20
