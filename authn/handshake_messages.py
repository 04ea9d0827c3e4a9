"""The four handshake messages and their exact bytes (docs/protocol.md, "Handshake")."""

from dataclasses import dataclass

from authn.errors import AttestationError
from authn.evidence import Quote
from authn.failure import AttestationFailure
from authn.fields import Reader, Writer, malformed
from authn.layers import MAX_LOG
from authn.merkle import MAX_LEAVES

VERSION = 1
SUITE_X25519_CHACHA20_SHA256 = 1
NONCE_SIZE = KEY_SHARE_SIZE = MAC_SIZE = 32
EPOCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class M1:
    """P→G: who I am, and which gateway profile I want proved."""

    peer_id: str
    ak_name: bytes
    nonce: bytes
    key_share: bytes
    gateway_profile: str

    def encode(self) -> bytes:
        """Write the message."""
        writer = Writer().u8(VERSION).u16(SUITE_X25519_CHACHA20_SHA256).text(self.peer_id).blob(self.ak_name)
        return writer.blob(self.nonce).blob(self.key_share).text(self.gateway_profile).finish()

    @classmethod
    def decode(cls, untrusted: bytes) -> "M1":
        """Read the message; raises AttestationError `malformed-message` or `unsupported-version`."""
        cursor = Reader(untrusted)
        version, suite = cursor.u8(), cursor.u16()
        if (version, suite) != (VERSION, SUITE_X25519_CHACHA20_SHA256):
            raise AttestationError(
                AttestationFailure.UNSUPPORTED_VERSION,
                f"version {version} with suite {suite} is not spoken here; expected 1 with suite 1",
                expected="1/1",
                got=f"{version}/{suite}",
            )
        message = cls(
            cursor.peer_id(at_most=128),
            cursor.blob(at_most=66),
            cursor.blob(exactly=NONCE_SIZE),
            cursor.blob(exactly=KEY_SHARE_SIZE),
            cursor.text(at_most=64),
        )
        cursor.finish()
        return message


@dataclass(frozen=True, slots=True)
class M2Core:
    """G→P: who the gateway is and what it wants of the peer; signed by the batch quote that follows it."""

    gateway_id: str
    ak_name: bytes
    nonce: bytes
    key_share: bytes
    selection: bytes
    profile_id: str
    epoch: bytes
    event_log: bytes

    def encode(self) -> bytes:
        """Write the part that is hashed into the batch's leaf."""
        writer = Writer().text(self.gateway_id).blob(self.ak_name).blob(self.nonce).blob(self.key_share)
        return (
            writer.blob(self.selection).text(self.profile_id).blob(self.epoch).blob(self.event_log).finish()
        )

    @classmethod
    def decode(cls, untrusted: bytes) -> "M2Core":
        """Read the message; raises AttestationError `malformed-message`."""
        cursor = Reader(untrusted)
        message = cls(
            cursor.text(at_most=128),
            cursor.blob(at_most=66),
            cursor.blob(exactly=NONCE_SIZE),
            cursor.blob(exactly=KEY_SHARE_SIZE),
            cursor.blob(at_most=64),
            cursor.text(at_most=64),
            cursor.blob(exactly=EPOCH_SIZE),
            cursor.blob(at_most=MAX_LOG),
        )
        cursor.finish()
        return message


@dataclass(frozen=True, slots=True)
class BatchQuote:
    """One quote over a Merkle root, and the proof that one leaf is below it."""

    quote: Quote
    index: int
    size: int
    path: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Write quote and proof."""
        writer = Writer().blob(self.quote.attest).blob(self.quote.signature).u32(self.index).u32(self.size)
        writer.u8(len(self.path))
        for node in self.path:
            writer.blob(node)
        return writer.finish()

    @classmethod
    def read(cls, cursor: Reader) -> "BatchQuote":
        """Read quote and proof; raises AttestationError `malformed-message`."""
        quote = Quote(cursor.blob(at_most=4096), cursor.blob(at_most=1024))
        index, size, count = cursor.u32(), cursor.u32(), cursor.u8()
        if size > MAX_LEAVES or count > MAX_LEAVES.bit_length():
            raise malformed("a batch proof is larger than any batch")
        return cls(quote, index, size, tuple(cursor.blob(exactly=32) for _ in range(count)))


@dataclass(frozen=True, slots=True)
class M2:
    """G→P: the core and the batch quote over it."""

    core: bytes
    proof: BatchQuote

    def encode(self) -> bytes:
        """Write the message."""
        return Writer().blob(self.core).raw(self.proof.encode()).finish()

    @classmethod
    def decode(cls, untrusted: bytes) -> "M2":
        """Read the message; raises AttestationError `malformed-message`."""
        cursor = Reader(untrusted)
        message = cls(cursor.blob(), BatchQuote.read(cursor))
        cursor.finish()
        return message


@dataclass(frozen=True, slots=True)
class M3:
    """P→G, sealed: the peer's evidence (`authn.layers`, encoded) and MAC_P."""

    evidence: bytes
    mac: bytes

    def encode(self) -> bytes:
        """Write the message."""
        return Writer().blob(self.evidence).blob(self.mac).finish()

    @classmethod
    def decode(cls, untrusted: bytes) -> "M3":
        """Read the message; raises AttestationError `malformed-message`."""
        cursor = Reader(untrusted)
        message = cls(cursor.blob(), cursor.blob(exactly=MAC_SIZE))
        cursor.finish()
        return message


@dataclass(frozen=True, slots=True)
class SessionParameters:
    """What the gateway sets for the session, authenticated by MAC_G."""

    beacon_interval_ms: int
    proof_every: int
    audit_sequence: int
    audit_head: bytes

    def encode(self) -> bytes:
        """Write the parameters."""
        writer = Writer().u32(self.beacon_interval_ms).u32(self.proof_every)
        return writer.u64(self.audit_sequence).blob(self.audit_head).finish()

    @classmethod
    def decode(cls, untrusted: bytes) -> "SessionParameters":
        """Read the parameters; raises AttestationError `malformed-message`."""
        cursor = Reader(untrusted)
        parameters = cls(cursor.u32(), cursor.u32(), cursor.u64(), cursor.blob(exactly=32))
        cursor.finish()
        if not 10 <= parameters.beacon_interval_ms <= 60_000 or not 1 <= parameters.proof_every <= 1000:
            raise malformed("the session parameters are out of range")
        return parameters


@dataclass(frozen=True, slots=True)
class M4:
    """G→P, sealed: MAC_G and the session parameters."""

    mac: bytes
    parameters: bytes

    def encode(self) -> bytes:
        """Write the message."""
        return Writer().blob(self.mac).blob(self.parameters).finish()

    @classmethod
    def decode(cls, untrusted: bytes) -> "M4":
        """Read the message; raises AttestationError `malformed-message`."""
        cursor = Reader(untrusted)
        message = cls(cursor.blob(exactly=MAC_SIZE), cursor.blob(at_most=1024))
        cursor.finish()
        return message
