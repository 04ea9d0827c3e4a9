"""Beacons: the gateway asks, unpredictably and all the time; a peer that stops proving itself expires.

Pure; times are seconds of one steady clock, passed in. Nothing has to happen for a bad peer to lose
access: what a pass permits ends by itself, at *beacon sent* + 2T at the latest.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from authn import labels, merkle
from authn.appraisal import CheckReference, Measured, follow
from authn.errors import AttestationError
from authn.evidence import Counters, Quote
from authn.failure import AttestationFailure
from authn.handshake_messages import BatchQuote
from authn.ima import ImaEntry, MeasuredFiles, parse_ima_list
from authn.messages import NONCE_SIZE, Beacon, BeaconAnswer
from authn.pcr import PcrSelection
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote, check_signature, verify_quote

REMEMBERED = 4
CHECK_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Pass:
    """A full pass: what it proves is as fresh as its beacon, which was sent at `asked_at`."""

    asked_at: float
    counters: Counters


@dataclass(slots=True)
class BeaconTracker:
    """The gateway's view of one peer's beacons. Only the latest counts, once, within T/2."""

    key: AttestationKey
    selection: PcrSelection
    pcr_values: Mapping[int, bytes]
    counters: Counters
    epoch: bytes
    exporter: bytes
    interval: float
    proof_every: int
    random: Callable[[int], bytes]
    files: MeasuredFiles | None = None
    check: CheckReference | None = None
    challenge: bytes = bytes(NONCE_SIZE)
    late: int = 0
    _number: int = 0
    _answered: int = 0
    _nonce: bytes = b""
    _sent_at: float = 0.0
    _check_at: float = 0.0

    @property
    def proof_due(self) -> bool:
        """Tell whether the next beacon must carry a proof of the gateway."""
        return (self._number + 1) % self.proof_every == 0

    def proof_leaf(self) -> bytes:
        """Return the leaf that the next beacon's proof must cover."""
        return labels.gateway_beacon_leaf(self._number + 1, self.challenge, self.exporter)

    def next_beacon(self, now: float, audit: tuple[int, bytes], proof: BatchQuote | None) -> Beacon:
        """Draw the next beacon; answers to earlier ones don't count any more."""
        self._number += 1
        self._nonce, self._sent_at = self.random(NONCE_SIZE), now
        return Beacon(self._number, self._nonce, audit[0], audit[1], proof)

    def judge(self, answer: BeaconAnswer, now: float) -> Pass | None:
        """Return a pass, or None for an answer that came too late to count; raises AttestationError when it is bad."""
        if answer.number > self._number:
            raise AttestationError(
                AttestationFailure.REPLAYED_NONCE, "an answer to a beacon that was never sent"
            )
        if answer.number <= self._answered:  # each beacon is answered once: nothing else may fill our memory
            self.late += 1
            return None
        self._answered, self.challenge = answer.number, answer.challenge
        self.note_files(answer.list_extension)
        if answer.number < self._number or now > self._sent_at + self.interval / 2:
            self.late += 1
            return None
        self.verify(answer.quote, labels.beacon(self._nonce, self.epoch, self.exporter))
        if self.check is not None and now >= self._check_at:  # reference values expire while sessions last
            self.check(Measured((), (), self.pcr_values))
            self._check_at = now + CHECK_EVERY_S
        self.late = 0
        return Pass(self._sent_at, self.counters)

    def note_files(self, untrusted_more: bytes) -> None:
        """Take the next piece of the IMA list, also when the quote that came with it does not count."""
        if self.files is not None:
            self.files.append(parse_ima_list(untrusted_more))

    def verify(self, quote: Quote, qualifying_data: bytes) -> None:
        """Verify a quote of this session and the files that were measured before it; raises AttestationError."""
        check_signature(quote, self.key)
        proved = tuple[ImaEntry, ...]()
        if self.files is not None:
            self.pcr_values, proved = follow(self.files, quote, self.selection, self.pcr_values)
        expected = ExpectedQuote(
            self.key, self.selection, qualifying_data, self.pcr_values, self.counters, same_boot=True
        )
        self.counters = verify_quote(quote, expected).counters
        if proved and self.check is not None:
            self.check(Measured((), proved, self.pcr_values))


@dataclass(slots=True)
class GatewayWatch:
    """The peer's view of the gateway: every k-th beacon must prove it anew."""

    key: AttestationKey
    profile: Profile
    pcr_values: Mapping[int, bytes]
    counters: Counters
    exporter: bytes
    proof_every: int
    _challenges: deque[bytes] = field(default_factory=lambda: deque([bytes(NONCE_SIZE)], maxlen=REMEMBERED))
    _number: int = 0

    def receive(self, beacon: Beacon) -> None:
        """Check a beacon's number and, where it is due, its proof; raises AttestationError."""
        if beacon.number != self._number + 1:
            raise AttestationError(
                AttestationFailure.MALFORMED_MESSAGE,
                "a beacon is missing",
                expected=self._number + 1,
                got=beacon.number,
            )
        self._number = beacon.number
        if beacon.number % self.proof_every:
            return
        if beacon.proof is None:
            raise AttestationError(
                AttestationFailure.NO_ANSWER, "the gateway's proof is due and did not come"
            )
        self.counters = self._verify(beacon.number, beacon.proof)

    def _verify(self, number: int, proof: BatchQuote) -> Counters:
        """Verify the proof over one of the last challenges: an answer may have crossed the beacon."""
        refusal: AttestationError | None = None
        for challenge in reversed(self._challenges):
            leaf = labels.gateway_beacon_leaf(number, challenge, self.exporter)
            root = merkle.root_of_path(leaf, proof.index, proof.size, proof.path)
            if root is None:
                raise AttestationError(
                    AttestationFailure.WRONG_BATCH_PROOF, "the batch proof does not fit its index and size"
                )
            label = labels.gateway_beacon(proof.size, root)
            expected = ExpectedQuote(
                self.key, self.profile.selection, label, self.pcr_values, self.counters, same_boot=True
            )
            try:
                return verify_quote(proof.quote, expected).counters
            except AttestationError as error:
                if error.failure is not AttestationFailure.REPLAYED_NONCE:
                    raise
                refusal = error
        assert refusal is not None  # noqa: S101 - there is always one challenge
        raise refusal

    def answered(self, challenge: bytes) -> None:
        """Note the challenge that went out: the gateway's next proof must contain it."""
        self._challenges.append(challenge)
