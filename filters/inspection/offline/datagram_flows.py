"""The flows of datagrams in a capture: as in the gateway, a flow's first packet says who its client is."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from filters.inspection.assignments import Assignment
from filters.inspection.datagrams import DatagramFlow
from filters.inspection.finding import Direction, Finding
from filters.inspection.offline.selection import MOST_FLOWS, Selection
from filters.inspection.offline.summary import Endpoint, Flow, Learnt, Summary, Tell
from filters.inspection.packet import UDP, Packet
from filters.inspection.protocols.dns_tunnel import TunnelWatch

MOST_TUNNELS: Final = 1024  # pairs of machines that speak DNS


class DatagramFlows:
    """All flows of datagrams, the latest first to be kept."""

    def __init__(self, selection: Selection, summary: Summary, tell: Tell) -> None:
        self._selection, self._summary, self._tell = selection, summary, tell
        self._flows: OrderedDict[Flow, DatagramFlow] = OrderedDict()
        self._tunnels: OrderedDict[tuple[str, str], TunnelWatch] = OrderedDict()

    def datagram(self, packet: Packet, time: float) -> Iterator[tuple[Flow, Finding]]:
        """Yield what is found with the next datagram, captured at a time."""
        found = self._find(packet)
        if found is None:
            return
        flow, known, way = found
        if known.cut is not None:
            return
        for one in known.inspect(way, packet.payload, lambda: self._tunnel(flow, time)):
            known.cut = known.cut or (one.reason if one.cuts else None)
            yield flow, one
        self._summary.refused_flows += known.cut is not None

    def finish(self) -> None:
        """Count all flows, and free what they hold."""
        while self._flows:
            self._forget()

    def _find(self, packet: Packet) -> tuple[Flow, DatagramFlow, Direction] | None:
        name = "udp" if packet.protocol == UDP else "icmp"
        source = packet.source, packet.source_port
        destination = packet.destination, packet.destination_port
        sends, takes = Flow(name, source, destination), Flow(name, destination, source)
        # an answer is one of a flow that is there, or its question came before the capture
        ways = {True: (sends,), False: (takes,), None: (takes, sends)}[packet.asks]
        for flow in ways:
            if (known := self._flows.get(flow)) is not None:
                self._flows.move_to_end(flow)
                return flow, known, _way(flow, source)
        chosen = self._selection.find(packet.protocol, *reversed(ways))
        if chosen is None:
            return None
        flow, judge = chosen
        server, port = flow.server
        rule = Assignment(packet.protocol, flow.client[0], server, port, port, "", judge.spec)
        known = self._flows[flow] = DatagramFlow(packet.protocol, flow.client, flow.server, rule, judge)
        if len(self._flows) > MOST_FLOWS:
            self._summary.leave_out("flows of datagrams forgotten: too many at once")
            self._forget()
        return flow, known, _way(flow, source)

    def _forget(self) -> None:
        ends, flow = self._flows.popitem(last=False)
        spoken = flow.spoken or "none"
        self._summary.protocols[spoken] += 1
        self._tell(Learnt(ends, spoken))
        flow.close()

    def _tunnel(self, flow: Flow, time: float) -> TunnelWatch:
        pair = flow.client[0], flow.server[0]
        watch = self._tunnels.setdefault(pair, TunnelWatch())
        self._tunnels.move_to_end(pair)
        if len(self._tunnels) > MOST_TUNNELS:
            self._tunnels.popitem(last=False)
        watch.age(time)
        return watch


def _way(flow: Flow, source: Endpoint) -> Direction:
    return Direction.TO_SERVER if source == flow.client else Direction.TO_CLIENT
