"""Read IP packets as they are, live or captured: their addresses, ports and payload. What can't be read has a reason."""

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from socket import inet_ntoa

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
_V6_EXTENSIONS = (0, 43, 60, 51)
_V6_FRAGMENT = 44
_ECHO = {ICMP: {8: True, 0: False}, ICMP6: {128: True, 129: False}}
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


class Unreadable(ValueError):
    """Why a packet or frame is left out."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of an IP datagram. A piece of IPv6 may begin with more extension headers (see `parse_whole`)."""

    key: tuple[object, ...]
    offset: int
    more: bool
    protocol: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Packet:
    """What inspection needs of a packet. `flags`, `sequence` and `acknowledged` are TCP's; `asks`: whether ICMP echo does."""

    source: str
    destination: str
    protocol: int
    source_port: int
    destination_port: int
    payload: bytes
    flags: int = 0
    sequence: int = 0
    acknowledged: int = 0
    asks: bool | None = None


def parse_ip(data: bytes) -> tuple[str, str, Fragment]:
    """Return source, destination and payload (a whole datagram is a fragment from 0 without more); raises Unreadable."""
    if not data:
        raise Unreadable("empty")
    return _v4(data) if data[0] >> 4 == 4 else _v6(data)


def _v4(data: bytes) -> tuple[str, str, Fragment]:
    header = (data[0] & 15) * 4
    if len(data) < 20 or header < 20 or len(data) < header:
        raise Unreadable("short IPv4 header")
    total, ident, field, _, protocol = struct.unpack(">HHHBB", data[2:10])
    if total and not header <= total:
        raise Unreadable("IPv4 length")
    end = total or len(data)  # 0: the capture was made before segmentation offload
    if end > len(data):
        raise Unreadable("cut off")
    source, destination = inet_ntoa(data[12:16]), inet_ntoa(data[16:20])
    piece = Fragment(
        (source, destination, protocol, ident),
        (field & 0x1FFF) * 8,
        bool(field & 0x2000),
        protocol,
        data[header:end],
    )
    return source, destination, piece


def _v6(data: bytes) -> tuple[str, str, Fragment]:
    if len(data) < 40 or data[0] >> 4 != 6:
        raise Unreadable("short IPv6 header")
    length, following = struct.unpack(">HB", data[4:7])
    source, destination = str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40]))
    end = 40 + length if length else len(data)
    if end > len(data):
        raise Unreadable("cut off")
    following, rest = _past_extensions(following, data[40:end])
    if following != _V6_FRAGMENT:
        return source, destination, Fragment((source, destination, following, 0), 0, False, following, rest)
    if len(rest) < 8:
        raise Unreadable("short IPv6 extension")
    field, ident = struct.unpack(">HI", rest[2:8])
    key = source, destination, ident
    return source, destination, Fragment(key, field & 0xFFF8, bool(field & 1), rest[0], rest[8:])


def _past_extensions(following: int, data: bytes) -> tuple[int, bytes]:
    """Return the first header that is no extension, or a fragment's, and what stands from there on."""
    at = 0
    while following in _V6_EXTENSIONS:
        if at + 8 > len(data):
            raise Unreadable("short IPv6 extension")
        size = (data[at + 1] + 2) * 4 if following == 51 else (data[at + 1] + 1) * 8
        following, at = data[at], at + size
    return following, data[at:]


def parse_whole(source: str, destination: str, whole: Fragment) -> Packet:
    """Return the packet of a datagram that is whole; raises Unreadable."""
    protocol, data = whole.protocol, whole.data
    if ":" in source:  # behind a fragment header
        protocol, data = _past_extensions(protocol, data)
    return parse_transport(source, destination, protocol, data)


def parse_transport(source: str, destination: str, protocol: int, data: bytes) -> Packet:
    """Return the packet of a whole datagram; raises Unreadable."""
    if protocol == TCP:
        if len(data) < 20 or len(data) < (size := (data[12] >> 4) * 4) or size < 20:
            raise Unreadable("short TCP header")
        first, second, sequence, acknowledged = struct.unpack(">HHII", data[:12])
        return Packet(source, destination, TCP, first, second, data[size:], data[13], sequence, acknowledged)
    if protocol == UDP:
        if len(data) < 8:
            raise Unreadable("short UDP header")
        first, second, length = struct.unpack(">HHH", data[:6])
        return Packet(source, destination, UDP, first, second, data[8 : length or None])
    if protocol in {ICMP, ICMP6}:
        asks = _ECHO[protocol].get(data[0]) if data else None
        return Packet(source, destination, protocol, 0, 0, data[8:], asks=asks)
    raise Unreadable(f"IP protocol {protocol}")
