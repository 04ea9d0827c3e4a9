"""The messages that travel in records once a session stands (docs/protocol.md, "Messages").

Each message is a frozen dataclass; its fields are encoded in their order, by their type: int as 8 bytes,
bool as one byte, bytes and text with a length, Quote as two byte strings, Proof as its parts after a
presence byte.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from authn.evidence import Quote
from authn.fields import Reader, Writer, malformed
from authn.handshake_messages import BatchQuote

NONCE_SIZE = 32


@dataclass(frozen=True, slots=True)
class Beacon:
    """G to P: quote this nonce now. `proof` comes with every k-th beacon."""

    number: int
    nonce: bytes
    audit_sequence: int
    audit_head: bytes
    proof: BatchQuote | None


@dataclass(frozen=True, slots=True)
class BeaconAnswer:
    """P to G: the quote over the beacon, and a challenge for the gateway's next proof."""

    number: int
    quote: Quote
    challenge: bytes
    list_extension: bytes


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A to G: let me talk to that service of B."""

    request_id: int
    to: str
    service: str


@dataclass(frozen=True, slots=True)
class SessionChallenge:
    """G to A, then to B: prove yourself to the nonce of this request."""

    request_id: int
    nonce: bytes
    role: str
    peer: str
    service: str


@dataclass(frozen=True, slots=True)
class SessionProof:
    """A or B to G: the quote over the challenge."""

    request_id: int
    quote: Quote
    list_extension: bytes


@dataclass(frozen=True, slots=True)
class SessionResult:
    """G to A: granted with a lease, or refused with a reason."""

    request_id: int
    granted: bool
    session_id: str
    reason: str
    detail: str
    lease_ms: int
    destination_ip: str


@dataclass(frozen=True, slots=True)
class SessionOffer:
    """G to B: A was let through to your service."""

    session_id: str
    from_peer: str
    from_ip: str
    service: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """G to A and B: the session ended."""

    session_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """A to G to B: how much of what I sent from this port has arrived."""

    query_id: int
    session_id: str
    source_port: int
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """B to G to A: what B's kernel received on that connection."""

    query_id: int
    session_id: str
    bytes_received: int
    state: str
    complete: bool


@dataclass(frozen=True, slots=True)
class GatewayRefused:
    """P to G: I don't trust you (any more); sent once, then the peer hangs up."""

    reason: str
    detail: str


Message = (
    Beacon
    | BeaconAnswer
    | SessionRequest
    | SessionChallenge
    | SessionProof
    | SessionResult
    | SessionOffer
    | SessionClosed
    | DeliveryQuery
    | DeliveryReport
    | GatewayRefused
)

CODES: dict[int, type[Message]] = {
    1: Beacon,
    2: BeaconAnswer,
    3: SessionRequest,
    4: SessionChallenge,
    5: SessionProof,
    6: SessionResult,
    7: SessionOffer,
    8: SessionClosed,
    9: DeliveryQuery,
    10: DeliveryReport,
    11: GatewayRefused,
}


def _write_proof(writer: Writer, proof: BatchQuote | None) -> None:
    writer.u8(proof is not None)
    if proof is not None:
        writer.raw(proof.encode())


def _read_proof(cursor: Reader) -> BatchQuote | None:
    return BatchQuote.read(cursor) if _read_bool(cursor) else None


def _read_quote(cursor: Reader) -> Quote:
    return Quote(cursor.blob(at_most=4096), cursor.blob(at_most=1024))


def _read_bool(cursor: Reader) -> bool:
    value = cursor.u8()
    if value > 1:
        raise malformed(f"a flag is {value}, expected 0 or 1")
    return bool(value)


_WRITERS: dict[Any, Callable[[Writer, Any], object]] = {
    int: lambda writer, value: writer.u64(value),
    bool: lambda writer, value: writer.u8(value),
    bytes: lambda writer, value: writer.blob(value),
    str: lambda writer, value: writer.text(value),
    Quote: lambda writer, value: writer.blob(value.attest).blob(value.signature),
    BatchQuote | None: _write_proof,
}
_READERS: dict[Any, Callable[[Reader], Any]] = {
    int: lambda cursor: cursor.u64(),
    bool: _read_bool,
    bytes: lambda cursor: cursor.blob(),
    str: lambda cursor: cursor.text(at_most=1024),
    Quote: _read_quote,
    BatchQuote | None: _read_proof,
}
_KINDS = {kind: code for code, kind in CODES.items()}
_FIELDS: dict[type[Message], tuple[tuple[str, Any], ...]] = {
    kind: tuple((field.name, get_type_hints(kind)[field.name]) for field in dataclasses.fields(kind))
    for kind in _KINDS
}
_NONCES = frozenset({"nonce", "challenge", "audit_head"})


def encode(message: Message) -> bytes:
    """Encode a message: its code (1 byte), then its fields."""
    kind = type(message)
    writer = Writer().u8(_KINDS[kind])
    for name, hint in _FIELDS[kind]:
        _WRITERS[hint](writer, getattr(message, name))
    return writer.finish()


def decode(untrusted_data: bytes) -> Message:
    """Decode a message; raises AttestationError `malformed-message`."""
    cursor = Reader(untrusted_data)
    code = cursor.u8()
    if code not in CODES:
        raise malformed(f"message code {code} is unknown")
    kind = CODES[code]
    values = {name: _read(cursor, name, hint) for name, hint in _FIELDS[kind]}
    cursor.finish()
    return kind(**values)


def _read(cursor: Reader, name: str, hint: Any) -> Any:
    if name in _NONCES:
        return cursor.blob(exactly=NONCE_SIZE)
    return _READERS[hint](cursor)
