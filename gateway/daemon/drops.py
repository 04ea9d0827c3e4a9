"""Turn the kernel's samples of dropped packets into events: one per flow, reason and second.

Anybody can send packets that are dropped, also who never proved anything: beyond a rate for each source, its packets are
recorded as one sum for each reason and minute.
"""

import struct
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from ipaddress import IPv4Address

from filters.flow import Protocol
from filters.reason import DropReason
from gateway.audit.allowance import Allowance
from gateway.events.model import EventsCounted, FlowDropped, PacketsDropped

MAX_FLOWS = 512
SINGLY, SINGLY_PER_S = 50.0, 0.2  # flows of one source that go on record one by one
TELL_EVERY_S = 60.0


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
    """Count drops until they are taken. `known` are the addresses that have a bucket of their own."""

    def __init__(self, known: Container[str]) -> None:
        self._known = known
        self._counts: dict[DroppedFlow, int] = {}
        self._more: Counter[tuple[str, DropReason]] = Counter()
        self._allowance = Allowance(SINGLY, SINGLY_PER_S)
        self._tell_at = 0.0
        self._lost = 0

    def add(self, flow: DroppedFlow | None) -> None:
        """Count one packet; None is one that is not IPv4."""
        if flow is None:
            self._lost += 1
        elif flow in self._counts or len(self._counts) < MAX_FLOWS:
            self._counts[flow] = self._counts.get(flow, 0) + 1
        else:
            self._more[self._whose(flow), flow.reason] += 1

    def take(self, now: float, *, last: bool = False) -> list[FlowDropped | PacketsDropped | EventsCounted]:
        """Return the events since the last call: flows one by one as far as their source may, the others in sum.

        `last`: nobody will ask again, so the sums are told now.
        """
        counts, self._counts = self._counts, {}
        events: list[FlowDropped | PacketsDropped | EventsCounted] = []
        for flow, count in counts.items():
            if self._allowance.permits(self._whose(flow), now):
                events.append(_event(flow, count))
            else:
                self._more[self._whose(flow), flow.reason] += count
        if (last or now >= self._tell_at) and (self._more or self._lost):
            self._tell_at = now + TELL_EVERY_S
            events += self._take_sums()
        return events

    def _take_sums(self) -> list[PacketsDropped | EventsCounted]:
        more, lost = self._more, self._lost
        self._more, self._lost = Counter(), 0
        self._allowance.take_counts()  # flows; the packets are in `more`
        sums = [PacketsDropped(source, reason, count) for (source, reason), count in more.items()]
        return (
            [*sums, EventsCounted("samples of dropped packets that are not IPv4", lost)] if lost else [*sums]
        )

    def _whose(self, flow: DroppedFlow) -> str:
        """Name the source; addresses that nobody has share one bucket, or a sender could have any number."""
        return flow.source if flow.source in self._known else ""


def _event(flow: DroppedFlow, count: int) -> FlowDropped:
    ports = flow.source_port, flow.destination_port
    return FlowDropped(flow.source, flow.destination, flow.protocol, *ports, flow.reason, count)
