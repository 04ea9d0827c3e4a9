"""Run the inspectors on a capture or a file: what the gateway would have said."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from filters.inspection.assignments import Assignment
from filters.inspection.datagrams import DatagramFlow
from filters.inspection.finding import Direction, Finding, Refusal
from filters.inspection.limits import DEFAULT_LIMITS, Limits
from filters.inspection.objects.judge import Judge
from filters.inspection.offline.capture import Capture, Frame
from filters.inspection.offline.fragments import Fragments
from filters.inspection.offline.packet import (
    SYN,
    TCP,
    UDP,
    Packet,
    Unreadable,
    parse_ip,
    parse_whole,
    strip_link,
)
from filters.inspection.offline.reassembly import Side, is_reset
from filters.inspection.protocols.dns_tunnel import TunnelWatch
from filters.inspection.stream import StreamInspector, Verdict
from filters.reason import DropReason

Endpoint = tuple[str, int]
Choose = Callable[[int, Endpoint, Endpoint], Judge | None]


@dataclass(frozen=True, slots=True)
class Flow:
    """Who talked to whom: the client first."""

    protocol: str
    client: Endpoint
    server: Endpoint


@dataclass(frozen=True, slots=True)
class Event:
    """A finding with its flow and frame."""

    finding: Finding
    flow: Flow | None
    frame: int
    time: float


@dataclass(slots=True)
class Summary:
    """What was read. `left_out` counts frames that can't be inspected, by reason."""

    frames: int = 0
    flows: int = 0
    bytes: int = 0
    protocols: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    refused_flows: int = 0
    broken: str = ""


@dataclass(slots=True)
class _Connection:
    flow: Flow
    inspector: StreamInspector
    judge: Judge
    sides: tuple[Side, Side] = field(default_factory=lambda: (Side(), Side()))
    cut: bool = False


class Twin:
    """Inspect one capture. Iterate over `events`, then read `summary`."""

    def __init__(self, judge: Judge | Choose, limits: Limits = DEFAULT_LIMITS) -> None:
        """judge: what inspects every flow, or chooses by protocol, client and server; None: that flow is not inspected."""
        self._choose: Choose = (lambda _, __, ___: judge) if isinstance(judge, Judge) else judge
        self._limits = limits
        self._connections: dict[frozenset[Endpoint], _Connection] = {}
        self._fragments = Fragments()
        self._tunnels: dict[tuple[str, str], TunnelWatch] = {}
        self._datagrams: dict[Flow, DatagramFlow] = {}
        self._left_out: set[Flow] = set()
        self.summary = Summary()

    def events(self, capture: Capture) -> Iterator[Event]:
        """Yield what is found, in the order of the frames; ends of connections that the capture lacks come last."""
        last: Frame | None = None
        for frame in capture:
            last = frame
            self.summary.frames += 1
            for flow, finding in self._frame(frame):
                yield self._event(finding, flow, frame)
        for connection in self._connections.values():
            for finding in self._finish(connection):
                yield self._event(finding, connection.flow, last)
        for datagrams in self._datagrams.values():
            self.summary.protocols[datagrams.spoken] += 1
            datagrams.close()
        if self._fragments.left:
            self.summary.left_out["fragments of incomplete datagrams"] += self._fragments.left
        self.summary.broken = capture.broken

    def _event(self, finding: Finding, flow: Flow | None, frame: Frame | None) -> Event:
        self.summary.checks[finding.check] += 1
        return Event(finding, flow, frame.number if frame else 0, frame.time if frame else 0.0)

    def _frame(self, frame: Frame) -> Iterator[tuple[Flow | None, Finding]]:
        try:
            if len(frame.data) < frame.length:
                raise Unreadable("cut off by the capture")
            source, destination, piece = parse_ip(strip_link(frame.link, frame.data))
            whole = self._fragments.add(piece)
            if whole is None:
                return
            packet = parse_whole(source, destination, whole)
        except Unreadable as reason:
            self.summary.left_out[str(reason)] += 1
            return
        except Refusal as refusal:
            yield None, refusal.finding()
            return
        self.summary.bytes += len(packet.payload)
        if packet.protocol == TCP:
            yield from self._segment(packet)
        else:
            yield from self._datagram(packet)

    def _segment(self, packet: Packet) -> Iterator[tuple[Flow, Finding]]:
        connection, direction = self._connection(packet)
        if connection is None or connection.cut:
            return
        side = connection.sides[direction]
        ended = side.ended
        try:
            for piece in side.take(packet):
                if not connection.cut:
                    yield from self._apply(connection, connection.inspector.feed(direction, piece))
        except Refusal as refusal:
            self._cut(connection)
            yield connection.flow, refusal.finding().at(direction, connection.inspector.protocol)
            return
        if side.ended and not ended and not connection.cut:
            yield from self._apply(connection, connection.inspector.end(direction))
        if is_reset(packet):
            self._cut(connection, refused=False)

    def _connection(self, packet: Packet) -> tuple[_Connection | None, Direction]:
        source, destination = (
            (packet.source, packet.source_port),
            (packet.destination, packet.destination_port),
        )
        key = frozenset({source, destination})
        known = self._connections.get(key)
        opens = packet.flags & SYN and not packet.flags & 0x10
        if known is None or (opens and (known.cut or any(one.ended for one in known.sides))):
            if known is not None:
                self._count(known)
            from_client = bool(opens) or (not packet.flags & SYN and source[1] >= destination[1])
            flow = Flow("tcp", source, destination) if from_client else Flow("tcp", destination, source)
            judge = self._judge_of(TCP, flow)
            if judge is None:
                return None, Direction.TO_SERVER
            inspector = StreamInspector(
                judge.spec,
                judge.patterns,
                self._limits,
                judge.fingerprints,
                judge.track(flow.client, flow.server),
            )
            known = self._connections[key] = _Connection(flow, inspector, judge)
            if not packet.flags & SYN:
                self.summary.left_out[
                    "connections without their beginning (inspected from where they are seen)"
                ] += 1
        return known, Direction.TO_SERVER if source == known.flow.client else Direction.TO_CLIENT

    def _apply(self, connection: _Connection, verdict: Verdict) -> Iterator[tuple[Flow, Finding]]:
        for finding in verdict.findings:
            yield connection.flow, finding
        for job in verdict.jobs:
            if not connection.cut and verdict.cut is None:
                found = connection.judge.judge(
                    job.data, job.name, job.media_type, whole=job.whole, as_sent=job.as_sent
                )
                yield from self._apply(connection, connection.inspector.judged(job.number, found))
        if verdict.cut is not None and not connection.cut:
            self._cut(connection)

    def _cut(self, connection: _Connection, *, refused: bool = True) -> None:
        connection.cut = True
        connection.inspector.close()
        self.summary.refused_flows += refused

    def _finish(self, connection: _Connection) -> Iterator[Finding]:
        """Judge what an incomplete connection held back, and say where bytes are missing."""
        for direction in Direction:
            if connection.cut:
                break
            if connection.sides[direction].waiting:
                self.summary.left_out["segments behind a gap"] += len(connection.sides[direction].waiting)
            for _, finding in self._apply(connection, connection.inspector.pause(direction)):
                yield finding
        self._count(connection)

    def _count(self, connection: _Connection) -> None:
        self.summary.protocols[connection.inspector.protocol or "none"] += 1
        connection.inspector.close()

    def _judge_of(self, protocol: int, flow: Flow) -> Judge | None:
        """Choose who inspects a flow that is new, and count it."""
        if flow in self._left_out:
            return None
        self.summary.flows += 1
        judge = self._choose(protocol, flow.client, flow.server)
        if judge is None:
            self._left_out.add(flow)
            self.summary.left_out["flows that no rule inspects"] += 1
        return judge

    def _datagram(self, packet: Packet) -> Iterator[tuple[Flow, Finding]]:
        name = "udp" if packet.protocol == UDP else "icmp"
        source, destination = (
            (packet.source, packet.source_port),
            (packet.destination, packet.destination_port),
        )
        from_client = source[1] >= destination[1]
        flow = Flow(name, source, destination) if from_client else Flow(name, destination, source)
        direction = Direction.TO_SERVER if from_client else Direction.TO_CLIENT
        known = self._datagrams.get(flow)
        if known is None:
            judge = self._judge_of(packet.protocol, flow)
            if judge is None:
                return
            server, port = flow.server
            rule = Assignment(packet.protocol, flow.client[0], server, port, port, "", judge.spec)
            known = DatagramFlow(packet.protocol, flow.client, flow.server, rule, judge)
            self._datagrams[flow] = known
        if known.cut is not None:
            return
        pair = flow.client[0], flow.server[0]
        for one in known.inspect(
            direction, packet.payload, lambda: self._tunnels.setdefault(pair, TunnelWatch())
        ):
            known.cut = known.cut or (one.reason if one.cuts else None)
            yield flow, one
        self.summary.refused_flows += known.cut is not None


def inspect_file(judge: Judge, data: bytes, name: str) -> list[Finding]:
    """Return what is found in one file, as if it were an object in transit."""
    if len(data) > DEFAULT_LIMITS.object:
        return [
            Finding(
                DropReason.RESOURCE_LIMIT,
                "object",
                f"more than {DEFAULT_LIMITS.object} bytes in one object",
                inside=name,
            )
        ]
    return [*judge.text(data, name), *judge.judge(data, name)]
