"""Write set elements as the kernel keeps them: keys, lease ids and timeouts as bytes. Pure.

Every member of a concatenation is padded to four bytes; a mark is in host order (filters.ruleset.names).
"""

import sys
from dataclasses import dataclass
from ipaddress import IPv4Address

from filters.flow import FlowKey, Protocol, Service
from filters.ruleset.names import MapName, SetName

_IFNAME_SIZE = 16


@dataclass(frozen=True, slots=True)
class Element:
    """One element: which set or map, its key, the data of a map, its timeout (None: it stays)."""

    place: SetName | MapName
    key: bytes
    data: bytes | None = None
    timeout_ms: int | None = None

    def __post_init__(self) -> None:
        # the kernel reads a timeout of 0 as "never expires"
        if self.timeout_ms is not None and self.timeout_ms < 1:
            raise ValueError("a timeout is at least 1 ms")


def trusted(ip: IPv4Address, timeout_ms: int) -> Element:
    """Build a peer's element of `@trusted`."""
    return Element(SetName.TRUSTED, ip.packed, None, timeout_ms)


def quarantined(ip: IPv4Address) -> Element:
    """Build a peer's element of `@quarantined`."""
    return Element(SetName.QUARANTINED, ip.packed)


def authority(interface: str, timeout_ms: int) -> Element:
    """Build the element of `@authority`."""
    return Element(SetName.AUTHORITY, interface_key(interface), None, timeout_ms)


def authority_had(interface: str) -> Element:
    """Build the element of `@authority_had`."""
    return Element(SetName.AUTHORITY_HAD, interface_key(interface))


def live(lease_id: int, timeout_ms: int) -> Element:
    """Build a lease's element of `@live`."""
    return Element(SetName.LIVE, mark(lease_id), None, timeout_ms)


def lease(key: FlowKey, lease_id: int, timeout_ms: int) -> Element:
    """Build a lease's element of `@lease`, or of `@lease_icmp` for echo."""
    return Element(lease_place(key), lease_key(key), mark(lease_id), timeout_ms)


def lease_place(key: FlowKey) -> MapName:
    """Say which map keeps a flow key."""
    return MapName.LEASE_ICMP if key.service.protocol is Protocol.ICMP else MapName.LEASE


def lease_key(key: FlowKey) -> bytes:
    """Write a flow key as the kernel's key: 8 bytes for echo, else 16."""
    pair = key.source.packed + key.destination.packed
    if key.service.protocol is Protocol.ICMP:
        return pair
    return pair + bytes([key.service.protocol, 0, 0, 0]) + key.service.port.to_bytes(2, "big") + b"\0\0"


def read_lease_key(raw: bytes) -> FlowKey:
    """Read a kernel key of `@lease` or `@lease_icmp`; raises ValueError."""
    source, destination = IPv4Address(raw[:4]), IPv4Address(raw[4:8])
    if len(raw) == 8:
        return FlowKey(source, destination, Service(Protocol.ICMP, 0))
    return FlowKey(source, destination, Service(Protocol(raw[8]), int.from_bytes(raw[12:14], "big")))


def interface_key(interface: str) -> bytes:
    """Write an interface name as the kernel's key."""
    return interface.encode().ljust(_IFNAME_SIZE, b"\0")


def mark(lease_id: int) -> bytes:
    """Write a lease id as a mark."""
    return lease_id.to_bytes(4, sys.byteorder)


def read_mark(raw: bytes) -> int:
    """Read a lease id from a mark."""
    return int.from_bytes(raw[:4], sys.byteorder)
