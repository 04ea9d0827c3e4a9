"""Drive both handshake machines against each other over real TPMs, frame by frame."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from authn import merkle
from authn.event_log import LogEvent, build_event_log
from authn.fields import FrameType
from authn.handshake import (
    Command,
    Established,
    EstablishedSession,
    SendFrame,
    WantBatchQuote,
    WantPeer,
    WantQuote,
)
from authn.handshake_gateway import GatewayConfig, GatewayHandshake, PeerFacts
from authn.handshake_messages import BatchQuote, SessionParameters
from authn.handshake_peer import PeerConfig, PeerHandshake
from authn.labels import gateway_batch
from authn.pcr import PcrSelection
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.tpm import Tpm

PROFILE = Profile.of("lab", {4: "code", 9: "argv", 14: "clean"})
Alter = Callable[[SendFrame], SendFrame]


def accept(_measured: object) -> None:
    """Take any reference: the dialogue is about the conversation."""


@dataclass
class End:
    tpm: Tpm
    key: AttestationKey
    log: bytes

    @classmethod
    def booted(cls, tpm: Tpm, name: bytes) -> "End":
        """Measure something into PCR 4 and write the log."""
        identity = tpm.provision()
        digest = os.urandom(32)
        tpm.extend(4, digest)
        log = build_event_log([LogEvent(4, 0x0D, digest, name)])
        return cls(tpm, AttestationKey.from_public(identity.ak_public, identity.ek_public), log)


@dataclass
class Dialogue:
    peer_end: End
    gateway_end: End
    alter: Alter = lambda frame: frame
    facts: PeerFacts | None = None
    frames: list[SendFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peer = PeerHandshake(
            PeerConfig(
                "lab/web", self.peer_end.key.name, PROFILE.selection, "gateway-1", self.gateway_end.key, PROFILE,
                accept, None, self.peer_end.log,
            ),
            os.urandom,
        )  # fmt: skip
        self.gateway = GatewayHandshake(
            GatewayConfig("gateway-1", self.gateway_end.key.name, bytes(16), "lab", self.gateway_end.log),
            lambda: SessionParameters(200, 5, 7, bytes(32)),
            os.urandom,
        )
        self.facts = self.facts or PeerFacts("lab/web", self.peer_end.key, PROFILE, None, accept)
        self.established: dict[str, EstablishedSession] = {}

    def run(self) -> tuple[EstablishedSession, EstablishedSession]:
        """Run to the end and return the peer's and the gateway's session."""
        queue: list[tuple[str, Command]] = [("peer", command) for command in self.peer.start()]
        while queue:
            side, command = queue.pop(0)
            more = self._carry_out(side, command)
            queue += more
        return self.established["peer"], self.established["gateway"]

    def _carry_out(self, side: str, command: Command) -> list[tuple[str, Command]]:
        match command:
            case SendFrame():
                frame = self.alter(command)
                self.frames.append(frame)
                other = "gateway" if side == "peer" else "peer"
                machine = self.gateway if side == "peer" else self.peer
                return [(other, result) for result in machine.receive(frame.type, frame.body)]
            case WantPeer():
                assert self.facts is not None
                return [(side, result) for result in self.gateway.peer_found(self.facts)]
            case WantBatchQuote(leaf):
                return [
                    (side, result)
                    for result in self.gateway.batch_quote(batch(self.gateway_end.tpm, [leaf], 0))
                ]
            case WantQuote(selection, data):
                return [
                    (side, result) for result in self.peer.quote(self.peer_end.tpm.quote(selection, data))
                ]
            case Established(session):
                self.established[side] = session
        return []


def batch(
    tpm: Tpm, leaves: list[bytes], index: int, selection: PcrSelection = PROFILE.selection
) -> BatchQuote:
    """Quote a batch of leaves."""
    quote = tpm.quote(selection, gateway_batch(len(leaves), merkle.Tree(leaves).root))
    return BatchQuote(quote, index, len(leaves), merkle.Tree(leaves).path(index))


def altering(kind: FrameType, change: Callable[[bytes], bytes]) -> Alter:
    """Alter the body of one kind of frame on its way."""
    return lambda frame: SendFrame(frame.type, change(frame.body)) if frame.type is kind else frame
