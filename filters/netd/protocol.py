"""What netd and its client say to each other: length-prefixed JSON over a unix stream socket.

A frame is a big-endian u32 length and that many bytes of JSON. The client sends
`{"id": n, "verb": "…", "args": {…}}`; netd answers `{"id": n, "ok": {…}}` or
`{"id": n, "error": {"code": …, "message": …, "params": {…}}}`, and pushes `{"event": "…", …}` in between.
Pure: no I/O.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from filters.errors import NetdError
from filters.flow import FlowKey, Protocol, Service
from filters.reason import DropReason

MAX_FRAME: Final = 64 * 1024 * 1024  # what a policy may at most compile to fits
_LENGTH: Final = 4
MAX_LEASE_ID: Final = 0xFFFFFFFF


class Verb(StrEnum):
    """What a client may ask for."""

    PING = "ping"
    LOAD_POLICY = "load_policy"
    CHECK_POLICY = "check_policy"
    TRUST = "trust"
    DISTRUST = "distrust"
    QUARANTINE = "quarantine"
    AUTHORITY = "authority"
    GRANT = "grant"
    RENEW = "renew"
    REVOKE = "revoke"
    RELEASE = "release"
    COUNTERS = "counters"
    SNAPSHOT = "snapshot"
    READ_BACK = "read_back"


class NetdCode(StrEnum):
    """Why netd refused (`NetdError.code`)."""

    MALFORMED = "malformed"  # the request is not what the protocol says
    BUSY = "busy"  # another client is connected
    FORBIDDEN = "forbidden"  # the caller's uid may not use netd
    NO_POLICY = "no-policy"  # nothing loaded yet
    QUARANTINED = "quarantined"  # the peer may not be trusted
    UNKNOWN_PEER = "unknown-peer"  # the address is not pinned by the policy
    NOT_PERMITTED = "not-permitted"  # the policy has no rule for this key
    LEASE_ID_IN_USE = "lease-id-in-use"
    NO_SUCH_LEASE = "no-such-lease"
    NO_SUCH_HOLD = "no-such-hold"
    KERNEL = "kernel"  # the kernel or libnftables refused; the table is as it was
    GONE = "gone"  # the connection to netd ended


@dataclass(frozen=True, slots=True)
class Held:
    """The first packet of a flow waits; answer with `release` within the hold time, whether a lease was granted or not."""

    hold_id: int
    key: FlowKey


@dataclass(frozen=True, slots=True)
class HoldDropped:
    """Held packets were dropped, or none could be held; `hold_id` 0: there was no hold for it."""

    hold_id: int
    key: FlowKey
    reason: DropReason


@dataclass(frozen=True, slots=True)
class Dropped:
    """The kernel dropped a packet (a rate-limited sample); `packet` is its beginning, from the IP header."""

    reason: DropReason
    packet: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Something could not be delivered to us: what, and how many times."""

    what: str
    count: int


@dataclass(frozen=True, slots=True)
class Drift:
    """Someone else changed packet filtering; `repaired` tells whether our table is as it should be again."""

    detail: str
    repaired: bool


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The last event of a client: netd is gone, and with it every trust and lease once they time out."""


Event = Held | HoldDropped | Dropped | Lost | Drift | Disconnected


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease as the kernel has it; `key` is None when only its id is in force (an older grant of a key)."""

    lease_id: int
    key: FlowKey | None
    remaining_ms: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the kernel has right now; times are milliseconds until expiry."""

    trusted: dict[IPv4Address, int]
    quarantined: tuple[IPv4Address, ...]
    authority_ms: int | None
    leases: tuple[LeaseState, ...]
    holds: int


def key_to_wire(key: FlowKey) -> list[object]:
    """Write a flow key as `[source, destination, protocol number, port]`."""
    return [str(key.source), str(key.destination), int(key.service.protocol), key.service.port]


def key_from_wire(data: object) -> FlowKey:
    """Read a flow key; raises NetdError `malformed`."""
    match data:
        case [str(source), str(destination), int(protocol), int(port)] if 0 <= port <= 0xFFFF:
            try:
                service = Service(Protocol(protocol), port)
                return FlowKey(IPv4Address(source), IPv4Address(destination), service)
            except ValueError as error:
                raise malformed(f"not a flow key: {error}") from error
    raise malformed(f"not a flow key: {data!r}")


def event_to_wire(event: Event) -> dict[str, Any]:
    """Write an event as the JSON object that netd pushes."""
    match event:
        case Held(hold_id, key):
            return {"event": "held", "hold_id": hold_id, "key": key_to_wire(key)}
        case HoldDropped(hold_id, key, reason):
            return {"event": "hold_dropped", "hold_id": hold_id, "key": key_to_wire(key), "reason": reason}
        case Dropped(reason, packet):
            return {"event": "dropped", "reason": reason, "packet": packet.hex()}
        case Lost(what, count):
            return {"event": "lost", "what": what, "count": count}
        case Drift(detail, repaired):
            return {"event": "drift", "detail": detail, "repaired": repaired}
        case Disconnected():
            return {"event": "disconnected"}


def event_from_wire(data: dict[str, Any]) -> Event:
    """Read a pushed event; raises NetdError `malformed`."""
    try:
        match data["event"]:
            case "held":
                return Held(int(data["hold_id"]), key_from_wire(data["key"]))
            case "hold_dropped":
                key = key_from_wire(data["key"])
                return HoldDropped(int(data["hold_id"]), key, DropReason(data["reason"]))
            case "dropped":
                return Dropped(DropReason(data["reason"]), bytes.fromhex(data["packet"]))
            case "lost":
                return Lost(str(data["what"]), int(data["count"]))
            case "drift":
                return Drift(str(data["detail"]), bool(data["repaired"]))
    except (KeyError, TypeError, ValueError) as error:
        raise malformed(f"not an event: {error}") from error
    raise malformed(f"unknown event {data['event']!r}")


def snapshot_to_wire(snapshot: Snapshot) -> dict[str, Any]:
    """Write a snapshot as JSON."""
    return {
        "trusted": {str(ip): ms for ip, ms in snapshot.trusted.items()},
        "quarantined": [str(ip) for ip in snapshot.quarantined],
        "authority_ms": snapshot.authority_ms,
        "leases": [
            [lease.lease_id, key_to_wire(lease.key) if lease.key else None, lease.remaining_ms]
            for lease in snapshot.leases
        ],
        "holds": snapshot.holds,
    }


def snapshot_from_wire(data: dict[str, Any]) -> Snapshot:
    """Read a snapshot."""
    return Snapshot(
        {IPv4Address(ip): int(ms) for ip, ms in data["trusted"].items()},
        tuple(IPv4Address(ip) for ip in data["quarantined"]),
        data["authority_ms"],
        tuple(
            LeaseState(int(lease_id), key_from_wire(key) if key else None, int(ms))
            for lease_id, key, ms in data["leases"]
        ),
        int(data["holds"]),
    )


def malformed(message: str) -> NetdError:
    """Build the error for a message that is not what the protocol says."""
    return NetdError(NetdCode.MALFORMED.value, message)


def no_socket(path: Path, error: OSError) -> NetdError:
    """Build the error for a place where netd can't listen."""
    message = f"can't listen at {path}: {error.strerror}; its directory has to be there, and netd's uid has to be allowed to write to it"
    return NetdError(NetdCode.KERNEL.value, message, errno=error.errno)


def encode_frame(message: dict[str, Any]) -> bytes:
    """Write one frame."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return len(body).to_bytes(_LENGTH, "big") + body


class FrameReader:
    """Cut a byte stream into messages; raises NetdError `malformed` for what is none."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take bytes as they come and return the messages that are now complete."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH:
            length = int.from_bytes(self._buffer[:_LENGTH], "big")
            if length > MAX_FRAME:
                raise malformed(f"frame of {length} bytes; at most {MAX_FRAME} are allowed")
            if len(self._buffer) < _LENGTH + length:
                break
            body = bytes(self._buffer[_LENGTH : _LENGTH + length])
            del self._buffer[: _LENGTH + length]
            messages.append(_parse(body))
        return messages


def _parse(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise malformed(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise malformed("a message is a JSON object")
    return message
