"""Turn the kernel's samples of dropped packets into events: one per flow, reason and second."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from filters.flow import Protocol
from filters.reason import DropReason
from gateway.events.model import FlowDropped

MAX_FLOWS = 512


@dataclass(frozen=True, slots=True)
class DroppedFlow:
    """Whose packets were dropped, and why."""

    source: str
    destination: str
    protocol: int
    source_port: int
    destination_port: int
    reason: DropReason


def parse_packet(untrusted_packet: bytes, reason: DropReason) -> DroppedFlow | None:
    """Read the five-tuple of an IPv4 packet's beginning; None for anything else (RFC 791)."""
    if len(untrusted_packet) < 20 or untrusted_packet[0] >> 4 != 4:
        return None
    header = (untrusted_packet[0] & 15) * 4
    fragment = struct.unpack_from(">H", untrusted_packet, 6)[0] & 0x1FFF
    protocol = untrusted_packet[9]
    ports = 0, 0
    if protocol in (Protocol.TCP, Protocol.UDP) and not fragment and len(untrusted_packet) >= header + 4:
        ports = struct.unpack_from(">HH", untrusted_packet, header)
    elif protocol == Protocol.ICMP and not fragment and len(untrusted_packet) >= header + 2:
        ports = untrusted_packet[header], untrusted_packet[header + 1]
    source, destination = IPv4Address(untrusted_packet[12:16]), IPv4Address(untrusted_packet[16:20])
    return DroppedFlow(str(source), str(destination), protocol, ports[0], ports[1], reason)


class DropCollector:
    """Count drops until they are taken; flows over the limit are counted as lost."""

    def __init__(self) -> None:
        self._counts: dict[DroppedFlow, int] = {}
        self.lost = 0

    def add(self, flow: DroppedFlow | None) -> None:
        """Count one packet."""
        if flow is None or (flow not in self._counts and len(self._counts) >= MAX_FLOWS):
            self.lost += 1
            return
        self._counts[flow] = self._counts.get(flow, 0) + 1

    def take(self) -> list[FlowDropped]:
        """Return the events since the last call."""
        counts, self._counts = self._counts, {}
        return [
            FlowDropped(
                flow.source,
                flow.destination,
                flow.protocol,
                flow.source_port,
                flow.destination_port,
                flow.reason,
                count,
            )
            for flow, count in counts.items()
        ]
