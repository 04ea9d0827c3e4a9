"""Read the flow of an IPv4 packet from its first bytes: addresses, protocol, ports. Never its payload. Pure."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from filters.flow import FlowKey, Protocol, Service

NEEDED = 68  # the longest IP header and eight bytes of what follows
NEEDED_TO_SPREAD = 22
_GOLDEN = 0x9E3779B1  # 2^32 over the golden ratio: Knuth's multiplicative hash
_ECHO_REQUEST = b"\x08\x00"


@dataclass(frozen=True, slots=True)
class PacketFlow:
    """What opens a connection: its key, and what tells connections of one key apart."""

    key: FlowKey
    discriminator: int  # TCP and UDP: source port; ICMP echo: identifier


def spread(packet: bytes) -> int:
    """Return a number by which flows are spread: datagrams of two machines always have the same, TCP connections differ by source port.

    Zero for what has no header of IPv4's and eight bytes behind it.
    """
    if len(packet) < NEEDED_TO_SPREAD:
        return 0
    mixed = int.from_bytes(packet[12:16], "big") ^ int.from_bytes(packet[16:20], "big")
    if packet[9] == Protocol.TCP:
        mixed ^= int.from_bytes(packet[20:22], "big") << 8
    return (mixed * _GOLDEN & 0xFFFFFFFF) >> 16


def read_flow(packet: bytes) -> PacketFlow | None:
    """Read an unfragmented TCP, UDP or ICMP echo request; None for everything else."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    header = (packet[0] & 0xF) * 4
    if header < 20 or len(packet) < header + 8 or int.from_bytes(packet[6:8], "big") & 0x3FFF:
        return None
    try:
        protocol = Protocol(packet[9])
    except ValueError:
        return None
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    if protocol is Protocol.ICMP:
        if packet[header : header + 2] != _ECHO_REQUEST:
            return None
        port, discriminator = 0, int.from_bytes(packet[header + 4 : header + 6], "big")
    else:
        discriminator = int.from_bytes(packet[header : header + 2], "big")
        port = int.from_bytes(packet[header + 2 : header + 4], "big")
    return PacketFlow(FlowKey(source, destination, Service(protocol, port)), discriminator)
