import os
from collections.abc import Callable

import pytest

from authn import labels, merkle
from authn.beacon import BeaconTracker, GatewayWatch
from authn.evidence import Quote
from authn.failure import AttestationFailure
from authn.handshake_messages import BatchQuote
from authn.messages import Beacon, BeaconAnswer
from authn.pcr import PcrSelection
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.tpm import Tpm
from tests.authn.refusals import refused

pytestmark = pytest.mark.tpm
SELECTION = PcrSelection.of([4, 14])
EPOCH, EXPORTER, AUDIT = bytes(16), b"e" * 32, (1, bytes(32))
F = AttestationFailure


@pytest.fixture
def tracker(tpm: Tpm, key: AttestationKey) -> BeaconTracker:
    return BeaconTracker(
        key,
        SELECTION,
        tpm.read_pcrs(SELECTION),
        tpm.counters(),
        EPOCH,
        EXPORTER,
        interval=1.0,
        proof_every=2,
        random=os.urandom,
    )


def answer(tpm: Tpm, beacon: Beacon, exporter: bytes = EXPORTER) -> BeaconAnswer:
    quote = tpm.quote(SELECTION, labels.beacon(beacon.nonce, EPOCH, exporter))
    return BeaconAnswer(beacon.number, quote, b"c" * 32, b"")


def test_a_pass_is_as_fresh_as_its_beacon(tracker: BeaconTracker, tpm: Tpm) -> None:
    passed = tracker.judge(answer(tpm, tracker.next_beacon(10.0, AUDIT, None)), 10.4)
    assert passed is not None
    assert passed.asked_at == 10.0


def test_an_answer_counts_once(tracker: BeaconTracker, tpm: Tpm) -> None:
    good = answer(tpm, tracker.next_beacon(10.0, AUDIT, None))
    assert tracker.judge(good, 10.1) is not None
    assert tracker.judge(good, 10.2) is None


def test_a_late_answer_counts_nothing(tracker: BeaconTracker, tpm: Tpm) -> None:
    assert tracker.judge(answer(tpm, tracker.next_beacon(10.0, AUDIT, None)), 10.51) is None
    assert tracker.late == 1


def test_only_the_latest_beacon_counts(tracker: BeaconTracker, tpm: Tpm) -> None:
    first = answer(tpm, tracker.next_beacon(10.0, AUDIT, None))
    tracker.next_beacon(10.1, AUDIT, None)
    assert tracker.judge(first, 10.2) is None


def test_rejects_an_answer_from_the_future(tracker: BeaconTracker, tpm: Tpm) -> None:
    good = answer(tpm, tracker.next_beacon(10.0, AUDIT, None))
    with refused(F.REPLAYED_NONCE):
        tracker.judge(BeaconAnswer(good.number + 1, good.quote, good.challenge, b""), 10.1)


Alter = Callable[[Tpm, Beacon], Quote]
BAD: dict[str, tuple[Alter, F]] = {
    "another session": (
        lambda tpm, beacon: tpm.quote(SELECTION, labels.beacon(beacon.nonce, EPOCH, b"x" * 32)),
        F.REPLAYED_NONCE,
    ),
    "another epoch": (
        lambda tpm, beacon: tpm.quote(SELECTION, labels.beacon(beacon.nonce, b"x" * 16, EXPORTER)),
        F.REPLAYED_NONCE,
    ),
    "a stockpiled quote": (
        lambda tpm, _: tpm.quote(SELECTION, labels.beacon(os.urandom(32), EPOCH, EXPORTER)),
        F.REPLAYED_NONCE,
    ),
    "a session proof": (
        lambda tpm, beacon: tpm.quote(SELECTION, labels.session(beacon.nonce, EPOCH, EXPORTER, 1)),
        F.REPLAYED_NONCE,
    ),
    "other PCRs": (
        lambda tpm, beacon: tpm.quote(PcrSelection.of([4]), labels.beacon(beacon.nonce, EPOCH, EXPORTER)),
        F.RELABELLED_PCR,
    ),
    "a changed PCR": (
        lambda tpm, beacon: (
            tpm.extend(14, b"\1" * 32) or tpm.quote(SELECTION, labels.beacon(beacon.nonce, EPOCH, EXPORTER))
        ),
        F.PCR_MISMATCH,
    ),
}


@pytest.mark.parametrize("how", BAD)
def test_a_beacon_is_verified_in_full(tracker: BeaconTracker, tpm: Tpm, how: str) -> None:
    make, failure = BAD[how]
    beacon = tracker.next_beacon(10.0, AUDIT, None)
    with refused(failure):
        tracker.judge(BeaconAnswer(beacon.number, make(tpm, beacon), bytes(32), b""), 10.1)


def _proof(tpm: Tpm, number: int, challenge: bytes) -> BatchQuote:
    leaves = [b"x" * 32, labels.gateway_beacon_leaf(number, challenge, EXPORTER)]
    quote = tpm.quote(SELECTION, labels.gateway_beacon(2, merkle.Tree(leaves).root))
    return BatchQuote(quote, 1, 2, merkle.Tree(leaves).path(1))


@pytest.fixture
def watch(tpm: Tpm, key: AttestationKey) -> GatewayWatch:
    profile = Profile.of("gateway", {4: "a", 14: "b"})
    return GatewayWatch(key, profile, tpm.read_pcrs(SELECTION), tpm.counters(), EXPORTER, proof_every=2)


def test_peer_takes_a_due_proof_over_a_recent_challenge(watch: GatewayWatch, tpm: Tpm) -> None:
    watch.receive(Beacon(1, bytes(32), 0, bytes(32), None))
    watch.answered(b"first" + bytes(27))
    watch.answered(b"second" + bytes(26))
    watch.receive(Beacon(2, bytes(32), 0, bytes(32), _proof(tpm, 2, b"first" + bytes(27))))


def test_peer_rejects_a_missing_proof(watch: GatewayWatch) -> None:
    watch.receive(Beacon(1, bytes(32), 0, bytes(32), None))
    with refused(F.NO_ANSWER):
        watch.receive(Beacon(2, bytes(32), 0, bytes(32), None))


def test_peer_rejects_a_proof_without_its_challenge(watch: GatewayWatch, tpm: Tpm) -> None:
    watch.receive(Beacon(1, bytes(32), 0, bytes(32), None))
    with refused(F.REPLAYED_NONCE):
        watch.receive(Beacon(2, bytes(32), 0, bytes(32), _proof(tpm, 2, b"unknown" + bytes(25))))


def test_peer_rejects_a_gateway_whose_pcrs_changed(watch: GatewayWatch, tpm: Tpm) -> None:
    watch.receive(Beacon(1, bytes(32), 0, bytes(32), None))
    tpm.extend(14, b"\2" * 32)
    with refused(F.PCR_MISMATCH):
        watch.receive(Beacon(2, bytes(32), 0, bytes(32), _proof(tpm, 2, bytes(32))))


def test_peer_rejects_a_skipped_beacon(watch: GatewayWatch) -> None:
    with refused(F.MALFORMED_MESSAGE):
        watch.receive(Beacon(2, bytes(32), 0, bytes(32), None))
