"""Run one handshake or enrollment on a connection: carry the machines' commands out."""

import asyncio
import datetime as dt
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from authn.enrollment import EnrollmentVerifier
from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.fields import Frame, FrameType
from authn.handshake import Command, Established, EstablishedSession, SendFrame, WantBatchQuote, WantPeer
from authn.handshake_gateway import GatewayConfig, GatewayHandshake, PeerFacts
from authn.handshake_messages import SessionParameters
from authn.profile import Profile
from authn.reference import ReferenceSet, check_reference
from gateway.clock import Clock
from gateway.control.stream import FrameStream
from gateway.errors import GatewayError
from gateway.registry.registry import PeerRecord
from gateway.store.store import Store
from gateway.tpmd.client import TpmClient

if TYPE_CHECKING:
    from cryptography import x509

DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Introduction:
    """What the handshakes of this gateway have in common; the callables give what may change."""

    platform: str
    config: GatewayConfig
    tpm: TpmClient
    store: Store
    clock: Clock
    parameters: Callable[[], SessionParameters]
    profile: Callable[[str], Profile]
    ek: Callable[[str], str | None]  # the fingerprint that the policy demands
    references: Callable[[], Sequence[ReferenceSet]]
    ek_roots: tuple[bytes, ...]  # PEM
    own_references: bytes | None = (
        None  # the signed set of this gateway's own image, for peers that don't have it
    )


@dataclass(slots=True)
class HandshakeDriver:
    """One handshake from one place. `sent_at` is set when m2 went out."""

    introduction: Introduction
    stream: FrameStream
    record: PeerRecord
    machine: GatewayHandshake
    sent_at: float = 0.0

    @classmethod
    def begin(cls, introduction: Introduction, stream: FrameStream, record: PeerRecord) -> "HandshakeDriver":
        """Prepare a handshake with the peer that is pinned to the connection's place."""
        machine = GatewayHandshake(introduction.config, introduction.parameters, secrets.token_bytes)
        return cls(introduction, stream, record, machine)

    async def run(self, first: Frame) -> EstablishedSession:
        """Run to the end; raises AttestationError."""
        frame = first
        while True:
            for command in self.machine.receive(frame.type, frame.body):
                session = await self._carry_out(command)
                if session is not None:
                    return session
            frame = await self.stream.receive()

    async def _carry_out(self, command: Command) -> EstablishedSession | None:
        match command:
            case SendFrame(kind, body):
                if kind is FrameType.M2 and self.introduction.own_references is not None:
                    self.stream.send(FrameType.REFERENCES, self.introduction.own_references)
                self.stream.send(kind, body)
                self.sent_at = self.sent_at or self.introduction.clock.now()
            case WantPeer(peer_id, ak_name, _):
                (want,) = self.machine.peer_found(self._facts(peer_id, ak_name))
                assert isinstance(want, WantBatchQuote)  # noqa: S101 - the machine's only answer
                proof = await self.introduction.tpm.quote_handshake(want.leaf)
                for send in self.machine.batch_quote(proof):
                    await self._carry_out(send)
            case Established(session):
                return session
        return None

    def _facts(self, untrusted_peer_id: str, untrusted_ak_name: bytes) -> PeerFacts:
        """Identify the peer: name, key and place must be those pinned at enrollment."""
        intro, record = self.introduction, self.record
        if untrusted_peer_id != f"{intro.platform}/{record.name}":
            raise AttestationError(
                AttestationFailure.WRONG_PLACE,
                f"{untrusted_peer_id} is not pinned here",
                expected=record.name,
                got=untrusted_peer_id,
            )
        identity = intro.store.identity(record.name)
        if identity is None or not identity.approved:
            raise AttestationError(
                AttestationFailure.UNKNOWN_PEER, f"{record.name} is not enrolled and approved"
            )
        if identity.place != record.place:
            raise AttestationError(
                AttestationFailure.WRONG_PLACE, f"{record.name} was enrolled at another place"
            )
        _check_ek(intro, record.name, identity.ek_fingerprint)
        if untrusted_ak_name != identity.key.name:
            raise self._other_key(untrusted_ak_name)
        high_water = intro.store.high_water(record.name)
        profile = intro.profile(record.name)
        return PeerFacts(
            untrusted_peer_id,
            identity.key,
            profile,
            # what was verified last is newer than what is saved
            record.counters or (high_water.counters if high_water else None),
            lambda measured: check_reference(profile, measured, intro.references(), intro.clock.wall()),
        )

    def _other_key(self, untrusted_ak_name: bytes) -> AttestationError:
        """Build the refusal of a key that is not this place's own."""
        holder = self.introduction.store.holder(untrusted_ak_name)
        if holder is None:
            return AttestationError(
                AttestationFailure.WRONG_AK, f"{self.record.name} shows another attestation key"
            )
        return AttestationError(
            AttestationFailure.TPM_CLONE, f"{self.record.name} shows the attestation key that {holder} has"
        )


def name_copy(error: AttestationError, record: PeerRecord) -> AttestationError:
    """Call it a copy when counters lie behind those of a session that lives: one TPM can't show both."""
    behind = error.failure in (AttestationFailure.RESET_COUNT_REGRESSION, AttestationFailure.CLOCK_REGRESSION)
    if not (behind and record.trusted):
        return error
    message = (
        f"the session of {record.name} that lives is ahead of this TPM, so there are two: {error.message}"
    )
    return AttestationError(AttestationFailure.TPM_CLONE, message, **error.params)


async def run_enrollment(
    introduction: Introduction,
    stream: FrameStream,
    record: PeerRecord,
    first: Frame,
    preapproved: frozenset[str],
) -> tuple[str, bool]:
    """Enroll the TPM at this place; return `approved` or `pending`, and whether anything changed.

    Raises AttestationError, GatewayError.
    """
    now = dt.datetime.fromtimestamp(introduction.clock.wall(), dt.UTC)
    roots = await asyncio.to_thread(_load_roots, introduction.ek_roots)
    verifier = EnrollmentVerifier(roots, now, secrets.token_bytes)
    stream.send(FrameType.ENROLL_CHALLENGE, verifier.receive_hello(first.body))
    async with asyncio.timeout(DEADLINE_S):
        answer = await stream.receive()
    if answer.type is not FrameType.ENROLL_PROOF:
        raise AttestationError(
            AttestationFailure.MALFORMED_MESSAGE, f"{answer.type.name} came where e3 was due"
        )
    identity = verifier.receive_proof(answer.body)
    if identity.peer_id != f"{introduction.platform}/{record.name}" or identity.uuid != record.place.uuid:
        raise AttestationError(
            AttestationFailure.WRONG_PLACE,
            f"{identity.peer_id} with uuid {identity.uuid} does not belong here",
        )
    _check_ek(introduction, record.name, identity.ek_fingerprint)
    known = identity.ek_fingerprint in preapproved
    approved = known or introduction.store.preapproved(record.name, identity.ek_fingerprint)
    changed = introduction.store.enroll(identity, record.place, approved=approved)
    outcome = introduction.store.identity(record.name)
    status = "approved" if outcome is not None and outcome.approved else "pending"
    stream.send(FrameType.ENROLL_RESULT, status.encode())
    return status, changed


def _check_ek(introduction: Introduction, peer: str, fingerprint: str) -> None:
    """Refuse a TPM that is not the one that the policy names; raises AttestationError."""
    wanted = introduction.ek(peer)
    if wanted not in (None, fingerprint):
        raise AttestationError(
            AttestationFailure.WRONG_EK,
            f"the policy demands another endorsement key of {peer}",
            expected=wanted,
            got=fingerprint,
        )


def _load_roots(pems: tuple[bytes, ...]) -> "list[x509.Certificate]":
    # X.509 is a sixth of what a gateway loads, and most starts enroll nobody
    from cryptography import x509

    try:
        return [x509.load_pem_x509_certificate(pem) for pem in pems]
    except ValueError as error:
        raise GatewayError("bad-ek-root", f"an EK root is no PEM certificate: {error}") from error


def place_of(address: tuple[str, int] | None) -> IPv4Address:
    """Return the address a connection came from; raises GatewayError for none."""
    if address is None:
        raise GatewayError("no-address", "the connection has no address")
    return IPv4Address(address[0])
