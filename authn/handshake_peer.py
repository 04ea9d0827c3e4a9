"""The peer's end of the handshake: start → m1, m2 → quote → m3, m4 → established. Sans I/O."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from authn import labels, merkle
from authn.appraisal import CheckReference, Measured
from authn.channel import Channel
from authn.errors import AttestationError
from authn.event_log import parse_event_log, replay
from authn.evidence import Counters, Quote, VerifiedQuote
from authn.failure import AttestationFailure
from authn.fields import FrameType, malformed
from authn.handshake import (
    Command,
    Established,
    EstablishedSession,
    SendFrame,
    WantQuote,
    exchange,
    out_of_order,
)
from authn.handshake_messages import M1, M2, M3, M4, NONCE_SIZE, M2Core, SessionParameters
from authn.key_schedule import HandshakeKeys, SessionSecrets, digest, finished_mac
from authn.layers import OWN_TPM, Layer, encode_layers
from authn.pcr import HashAlg, PcrSelection
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote, verify_quote


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What provisioning gave the peer; `check_gateway` compares the gateway's PCRs with references.

    `ima_list` reads the kernel's list of measured files; empty where the profile asks for none.
    """

    peer_id: str
    ak_name: bytes
    selection: PcrSelection
    gateway_id: str
    gateway_key: AttestationKey
    gateway_profile: Profile
    check_gateway: CheckReference
    gateway_previous: Counters | None
    event_log: bytes
    ima_list: Callable[[], bytes] = bytes


class _State(Enum):
    START = "start"
    WAIT_M2 = "m2"
    WAIT_QUOTE = "quote"
    WAIT_M4 = "m4"
    DONE = "done"


@dataclass(slots=True)
class PeerHandshake:
    """One handshake. Any AttestationError is final: throw the machine away."""

    config: PeerConfig
    random: Callable[[int], bytes]
    _state: _State = _State.START
    _m1: bytes = b""
    _th2: bytes = b""
    _th4: bytes = b""
    _epoch: bytes = b""
    _private: X25519PrivateKey = field(init=False)
    _keys: HandshakeKeys = field(init=False)
    _gateway: VerifiedQuote = field(init=False)
    _gateway_pcrs: dict[int, bytes] = field(init=False)

    def start(self) -> list[Command]:
        """Send m1."""
        self._private = X25519PrivateKey.from_private_bytes(self.random(32))
        share = self._private.public_key().public_bytes_raw()
        m1 = M1(
            self.config.peer_id,
            self.config.ak_name,
            self.random(NONCE_SIZE),
            share,
            self.config.gateway_profile.id,
        )
        self._m1, self._state = m1.encode(), _State.WAIT_M2
        return [SendFrame(FrameType.M1, self._m1)]

    def receive(self, kind: FrameType, body: bytes) -> list[Command]:
        """Take a frame; raises AttestationError."""
        if kind is FrameType.ALERT:
            raise AttestationError(
                AttestationFailure.WRONG_GATEWAY,
                "the gateway refused, unauthenticated",
                alert=body[:64].decode("ascii", "replace"),
            )
        if kind is FrameType.M2 and self._state is _State.WAIT_M2:
            return self._receive_m2(M2.decode(body))
        if kind is FrameType.M4 and self._state is _State.WAIT_M4:
            return self._receive_m4(body)
        raise out_of_order(kind, self._state.value)

    def _receive_m2(self, m2: M2) -> list[Command]:
        core = M2Core.decode(m2.core)
        if core.gateway_id != self.config.gateway_id or core.ak_name != self.config.gateway_key.name:
            raise AttestationError(
                AttestationFailure.WRONG_GATEWAY,
                "another gateway answered",
                expected=self.config.gateway_id,
                got=core.gateway_id,
            )
        if core.selection != self.config.selection.encode():
            raise AttestationError(
                AttestationFailure.RELABELLED_PCR,
                "the gateway wants PCRs that this peer was not set up for",
                expected=self.config.selection.encode().hex(),
                got=core.selection.hex(),
            )
        self._verify_gateway(core, m2)
        self._th2 = digest(self._m1, m2.core, m2.proof.encode())
        self._keys = HandshakeKeys.derive(exchange(self._private, core.key_share), self._th2)
        self._epoch, self._state = core.epoch, _State.WAIT_QUOTE
        return [WantQuote(self.config.selection, labels.peer_handshake(self._th2))]

    def _verify_gateway(self, core: M2Core, m2: M2) -> None:
        """Verify the batch quote over m1 and m2 before a byte of ours goes out."""
        leaf = digest(self._m1, m2.core)
        profile = self.config.gateway_profile
        events = parse_event_log(core.event_log, HashAlg.SHA256)
        values = replay(events, profile.selection)
        # The root is what the path leads to; the quote then proves root and size together.
        root = merkle.root_of_path(leaf, m2.proof.index, m2.proof.size, m2.proof.path)
        if root is None:
            raise AttestationError(
                AttestationFailure.WRONG_BATCH_PROOF, "the batch proof does not fit its index and size"
            )
        expected = ExpectedQuote(
            self.config.gateway_key,
            profile.selection,
            labels.gateway_batch(m2.proof.size, root),
            values,
            self.config.gateway_previous,
        )
        self._gateway = verify_quote(m2.proof.quote, expected)
        self.config.check_gateway(Measured(events, (), values))
        self._gateway_pcrs = values

    def quote(self, quote: Quote) -> list[Command]:
        """Take the own TPM's quote and send m3."""
        if self._state is not _State.WAIT_QUOTE:
            raise malformed("a quote was given that was not wanted")
        # read after the quote was made: the list may run ahead of it, never behind
        layer = Layer(OWN_TPM, quote, self.config.event_log, self.config.ima_list())
        evidence = encode_layers((layer,))
        th3 = digest(self._th2, evidence)
        mac = finished_mac(self._keys.peer_finished, "peer", th3)
        self._th4 = digest(th3, mac)
        sealed = Channel(self._keys.peer_secret).seal(M3(evidence, mac).encode())
        self._state = _State.WAIT_M4
        return [SendFrame(FrameType.M3, sealed)]

    def _receive_m4(self, body: bytes) -> list[Command]:
        m4 = M4.decode(Channel(self._keys.gateway_secret).open(body))
        expected = finished_mac(self._keys.gateway_finished, "gateway", self._th4, m4.parameters)
        if not hmac.compare_digest(m4.mac, expected):
            raise AttestationError(
                AttestationFailure.WRONG_MAC, "the gateway's MAC does not fit the conversation"
            )
        secrets = SessionSecrets.derive(self._keys.master, digest(self._th4, m4.mac, m4.parameters))
        self._state = _State.DONE
        session = EstablishedSession(
            session_id=secrets.session_id,
            peer_id=self.config.peer_id,
            epoch=self._epoch,
            exporter=secrets.exporter,
            send=Channel(secrets.peer_traffic),
            receive=Channel(secrets.gateway_traffic),
            verified=self._gateway,
            pcr_values=self._gateway_pcrs,
            parameters=SessionParameters.decode(m4.parameters),
        )
        return [Established(session)]
