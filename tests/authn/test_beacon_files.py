"""Beacons of machines whose measured files are followed."""

import hashlib
import os
from dataclasses import replace

import pytest

from authn import labels
from authn.appraisal import Measured, appraise
from authn.beacon import BeaconTracker
from authn.evidence import Quote
from authn.failure import AttestationFailure as F
from authn.ima import MAX_AHEAD
from authn.messages import BeaconAnswer
from authn.profile import Profile
from authn.quote import ExpectedQuote
from authn.reference import ReferenceEvent, ReferenceSet, check_reference
from tests.authn.ima_lists import (
    BOOT,
    EVIL,
    INIT,
    NONCE,
    PROFILE,
    SET,
    SHELL,
    Machine,
    measure,
)
from tests.authn.refusals import refused

pytestmark = pytest.mark.tpm


def _tracker(machine: Machine) -> BeaconTracker:
    layer = machine.layer(BOOT, INIT)
    appraisal = appraise((layer,), PROFILE, ExpectedQuote(machine.key, PROFILE.selection, NONCE, {}))
    return BeaconTracker(
        machine.key, PROFILE.selection, appraisal.measured.pcr_values, appraisal.verified.counters, bytes(16), b"e" * 32,
        1.0, 5, os.urandom, appraisal.files, lambda measured: check_reference(PROFILE, measured, [SET], 0.0),
    )  # fmt: skip


def _answer(machine: Machine, tracker: BeaconTracker, more: bytes, now: float, late: float = 0.1) -> object:
    beacon = tracker.next_beacon(now, (1, bytes(32)), None)
    quote = machine.tpm.quote(PROFILE.selection, labels.beacon(beacon.nonce, bytes(16), b"e" * 32))
    return tracker.judge(BeaconAnswer(beacon.number, quote, bytes(32), more), now + late)


def test_a_beacon_goes_on_in_the_list(machine: Machine) -> None:
    tracker = _tracker(machine)
    assert _answer(machine, tracker, measure(machine.tpm, SHELL), 1.0) is not None
    assert _answer(machine, tracker, b"", 2.0) is not None


def test_a_piece_that_came_late_or_ahead_is_not_lost(machine: Machine) -> None:
    tracker = _tracker(machine)
    assert _answer(machine, tracker, measure(machine.tpm, SHELL), 1.0, late=0.9) is None
    assert _answer(machine, tracker, INIT.encode(), 2.0) is not None
    measure(machine.tpm, INIT)
    assert _answer(machine, tracker, b"", 3.0) is not None


@pytest.mark.parametrize("number", [0, 1])
def test_rejects_files_with_an_answer_that_no_beacon_waits_for(machine: Machine, number: int) -> None:
    tracker = _tracker(machine)
    assert _answer(machine, tracker, b"", 1.0) is not None
    for _ in range(3):
        assert tracker.judge(BeaconAnswer(number, Quote(b"", b""), bytes(32), EVIL.encode()), 1.1) is None
    assert tracker.files is not None
    assert tracker.files.ahead == []
    assert _answer(machine, tracker, measure(machine.tpm, SHELL), 2.0) is not None


def test_rejects_late_answers_that_bring_ever_more_files(machine: Machine) -> None:
    tracker, many = _tracker(machine), SHELL.encode() * (MAX_AHEAD // SHELL.size + 1)
    assert _answer(machine, tracker, many, 1.0, late=0.9) is None
    with refused(F.MALFORMED_IMA_LIST):
        _answer(machine, tracker, b"", 2.0, late=0.9)


def test_a_beacon_shows_an_unknown_file(machine: Machine) -> None:
    tracker = _tracker(machine)
    with refused(F.UNKNOWN_FILE):
        _answer(machine, tracker, measure(machine.tpm, EVIL), 1.0)


def test_a_session_does_not_outlive_its_reference_values(machine: Machine) -> None:
    wall, tracker = [0.0], _tracker(machine)
    aged = replace(SET, not_after=100.0)
    tracker.check = lambda measured: check_reference(PROFILE, measured, [aged], wall[0])
    assert _answer(machine, tracker, b"", 1.0) is not None
    wall[0] = 101.0
    assert _answer(machine, tracker, b"", 20.0) is not None  # not looked at again so soon
    with refused(F.REFERENCE_EXPIRED):
        _answer(machine, tracker, b"", 32.0)


def test_rejects_a_beacon_that_keeps_a_file_back(machine: Machine) -> None:
    tracker = _tracker(machine)
    measure(machine.tpm, EVIL)
    with refused(F.PCR_MISMATCH):
        _answer(machine, tracker, b"", 1.0)


def test_a_reference_that_changed_under_a_session_is_explained_without_a_log() -> None:
    """A beacon brings no events: only values are there to be compared."""
    profile, empty = Profile.of("p", {12: "none"}), ReferenceSet(2, 1e12, {"none": ()})
    with refused(F.REFERENCE_MISMATCH) as caught:
        check_reference(profile, Measured((), (), {12: b"\1" * 32}), [empty], 0.0)
    assert caught.value.message == f"PCR 12: none differs: expected the reference value, got {'01' * 32}"


def test_expiry_of_the_machines_own_set_is_not_held_against_it() -> None:
    profile, values = Profile.of("p", {12: "none"}), {12: b"\1" * 32}
    own = ReferenceSet(1, 1000.0, {"none": (ReferenceEvent("one", hashlib.sha256(b"x").digest()),)})
    shown = Measured((), (), {12: hashlib.sha256(bytes(32) + hashlib.sha256(b"x").digest()).digest()})
    other = ReferenceSet(2, 2000.0, {"none": ()})
    with refused(F.REFERENCE_EXPIRED):
        check_reference(profile, shown, [other, own], 1001.0)
    with refused(F.REFERENCE_MISMATCH):
        check_reference(profile, Measured((), (), values), [other, own], 1001.0)
