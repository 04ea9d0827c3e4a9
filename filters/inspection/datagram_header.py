"""Read the headers of datagrams. Strict: what is not exactly one whole packet, as long as it says, is unreadable."""

import struct
from socket import inet_aton
from typing import Final

from filters.inspection.packet import ICMP, UDP, Packet, Unreadable, parse_ip, parse_transport

PLAIN_HEADERS: Final = 28  # bytes: IPv4 without options, and UDP
_PLAIN: Final = struct.Struct(">BxHxxHxB2x12sH")
_FRAGMENTED: Final = 0x3FFF  # more fragments, and a fragment's offset
_ECHO_REQUEST, _ECHO_REPLY = b"\x08\0", b"\0\0"


def plain_ends(untrusted_packet: bytes) -> bytes:
    """Return the ends of UDP in IPv4 without options, as `pack_ends` writes them; nothing for all that needs a closer look."""
    if len(untrusted_packet) < PLAIN_HEADERS:
        return b""
    first, total, fragment, protocol, ends, length = _PLAIN.unpack_from(untrusted_packet)
    if first != 0x45 or protocol != UDP or fragment & _FRAGMENTED:
        return b""
    whole: bool = total == len(untrusted_packet) and length == total - 20
    return ends if whole else b""


def pack_ends(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """Write two ends as the headers have them."""
    ports = source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    return inet_aton(source[0]) + inet_aton(destination[0]) + ports


def read_datagram(untrusted_packet: bytes) -> tuple[Packet, bool | None]:
    """Return a packet, and whether ICMP asks (None: its ports say); raises Unreadable."""
    data = untrusted_packet
    source, destination, whole = parse_ip(data)
    if whole.offset or whole.more or data[0] >> 4 != 4 or not int.from_bytes(data[2:4], "big") == len(data):
        raise Unreadable("not one whole IPv4 packet")
    packet = parse_transport(source, destination, whole.protocol, whole.data)
    if packet.protocol == UDP:
        if int.from_bytes(whole.data[4:6], "big") != len(whole.data):
            raise Unreadable("UDP length")
        return packet, None
    if packet.protocol != ICMP or len(whole.data) < 8 or whole.data[:2] not in (_ECHO_REQUEST, _ECHO_REPLY):
        raise Unreadable("neither UDP nor ICMP echo")
    return packet, whole.data[:2] == _ECHO_REQUEST
