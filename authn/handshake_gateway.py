"""The gateway's end of the handshake: m1 → look up → batch quote → m2, m3 → m4, established. Sans I/O."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from authn import labels
from authn.appraisal import Appraisal, CheckReference, appraise
from authn.attest import parse_quote
from authn.channel import Channel
from authn.errors import AttestationError
from authn.evidence import Counters
from authn.failure import AttestationFailure
from authn.fields import FrameType, malformed
from authn.handshake import (
    Command,
    Established,
    EstablishedSession,
    SendFrame,
    WantBatchQuote,
    WantPeer,
    exchange,
    out_of_order,
)
from authn.handshake_messages import M1, M2, M3, M4, NONCE_SIZE, BatchQuote, M2Core, SessionParameters
from authn.key_schedule import HandshakeKeys, SessionSecrets, digest, finished_mac
from authn.layers import Layer, decode_layers, own_layer
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote, check_signature


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """What the gateway says of itself in m2."""

    gateway_id: str
    ak_name: bytes
    epoch: bytes
    gateway_profile: str
    event_log: bytes


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What enrollment and policy say about the peer that m1 names."""

    peer_id: str
    key: AttestationKey
    profile: Profile
    previous: Counters | None
    check: CheckReference


@dataclass(frozen=True, slots=True)
class SignedEvidence:
    """Evidence whose signature was good: th2 and the layers."""

    th2: bytes
    layers: tuple[Layer, ...]


class _State(Enum):
    WAIT_M1 = "m1"
    WAIT_PEER = "peer"
    WAIT_BATCH = "batch quote"
    WAIT_M3 = "m3"
    DONE = "done"


@dataclass(slots=True)
class GatewayHandshake:
    """One handshake. Any AttestationError is final; `signed_by_peer` tells whether it may be held against the peer.

    `signed` is the evidence as the peer's own key signed it, with the transcript it was signed for.
    """

    config: GatewayConfig
    parameters: Callable[[], SessionParameters]
    random: Callable[[int], bytes]
    signed: SignedEvidence | None = None
    peer: PeerFacts | None = None
    _state: _State = _State.WAIT_M1
    _m1: bytes = b""
    _m2_core: bytes = b""
    _th2: bytes = b""
    _share: bytes = b""
    _private: X25519PrivateKey = field(init=False)
    _keys: HandshakeKeys = field(init=False)

    @property
    def signed_by_peer(self) -> bool:
        """Tell whether the peer's enrolled key signed what came."""
        return self.signed is not None

    @property
    def signed_reset_count(self) -> int | None:
        """Return the reset count that the peer's own key signed, whatever else is wrong with it; None: it signed none."""
        if self.signed is None:
            return None
        try:
            return parse_quote(own_layer(self.signed.layers).quote.attest).counters.reset_count
        except AttestationError:
            return None

    def receive(self, kind: FrameType, body: bytes) -> list[Command]:
        """Take a frame; raises AttestationError."""
        if kind is FrameType.M1 and self._state is _State.WAIT_M1:
            return self._receive_m1(body)
        if kind is FrameType.M3 and self._state is _State.WAIT_M3:
            return self._receive_m3(body)
        raise out_of_order(kind, self._state.value)

    def _receive_m1(self, body: bytes) -> list[Command]:
        m1 = M1.decode(body)
        if m1.gateway_profile != self.config.gateway_profile:
            raise AttestationError(
                AttestationFailure.UNSUPPORTED_VERSION,
                f"gateway profile {m1.gateway_profile!r} is not offered; there is {self.config.gateway_profile!r}",
                expected=self.config.gateway_profile,
                got=m1.gateway_profile,
            )
        self._m1, self._share, self._state = body, m1.key_share, _State.WAIT_PEER
        return [WantPeer(m1.peer_id, m1.ak_name, m1.gateway_profile)]

    def peer_found(self, facts: PeerFacts) -> list[Command]:
        """Go on with a known peer: ask for a quote over m1 and m2."""
        self.peer = facts
        self._private = X25519PrivateKey.from_private_bytes(self.random(32))
        core = M2Core(
            self.config.gateway_id,
            self.config.ak_name,
            self.random(NONCE_SIZE),
            self._private.public_key().public_bytes_raw(),
            facts.profile.selection.encode(),
            facts.profile.id,
            self.config.epoch,
            self.config.event_log,
        )
        self._m2_core, self._state = core.encode(), _State.WAIT_BATCH
        return [WantBatchQuote(digest(self._m1, self._m2_core))]

    def batch_quote(self, proof: BatchQuote) -> list[Command]:
        """Send m2 with the quote over it."""
        self._th2 = digest(self._m1, self._m2_core, proof.encode())
        self._keys = HandshakeKeys.derive(exchange(self._private, self._share), self._th2)
        self._state = _State.WAIT_M3
        return [SendFrame(FrameType.M2, M2(self._m2_core, proof).encode())]

    def _receive_m3(self, body: bytes) -> list[Command]:
        facts = self.peer
        if facts is None:
            raise malformed("m3 came for nobody")
        m3 = M3.decode(Channel(self._keys.peer_secret).open(body))
        th3 = digest(self._th2, m3.evidence)
        if not hmac.compare_digest(m3.mac, finished_mac(self._keys.peer_finished, "peer", th3)):
            raise AttestationError(
                AttestationFailure.WRONG_MAC, "the peer's MAC does not fit the conversation"
            )
        layers = decode_layers(m3.evidence)
        check_signature(own_layer(layers).quote, facts.key)
        self.signed = SignedEvidence(self._th2, layers)
        expected = ExpectedQuote(
            facts.key, facts.profile.selection, labels.peer_handshake(self._th2), {}, facts.previous
        )
        appraisal = appraise(layers, facts.profile, expected)
        facts.check(appraisal.measured)
        return self._establish(digest(th3, m3.mac), facts, appraisal)

    def _establish(self, th4: bytes, facts: PeerFacts, appraisal: Appraisal) -> list[Command]:
        parameters = self.parameters()
        encoded = parameters.encode()
        mac = finished_mac(self._keys.gateway_finished, "gateway", th4, encoded)
        secrets = SessionSecrets.derive(self._keys.master, digest(th4, mac, encoded))
        self._state = _State.DONE
        session = EstablishedSession(
            session_id=secrets.session_id,
            peer_id=facts.peer_id,
            epoch=self.config.epoch,
            exporter=secrets.exporter,
            send=Channel(secrets.gateway_traffic),
            receive=Channel(secrets.peer_traffic),
            verified=appraisal.verified,
            pcr_values=appraisal.measured.pcr_values,
            parameters=parameters,
            files=appraisal.files,
        )
        sealed = Channel(self._keys.gateway_secret).seal(M4(mac, encoded).encode())
        return [SendFrame(FrameType.M4, sealed), Established(session)]
