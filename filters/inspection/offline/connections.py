"""The TCP connections of a capture. What their receivers would not accept must not hide what they read."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from filters.inspection.finding import Direction, Finding, Refusal
from filters.inspection.limits import Limits
from filters.inspection.objects.judge import Judge
from filters.inspection.offline.reassembly import Side
from filters.inspection.offline.selection import MOST_FLOWS, Selection
from filters.inspection.offline.summary import Endpoint, Flow, Learnt, Summary, Tell
from filters.inspection.packet import ACK, RST, SYN, TCP, Packet
from filters.inspection.stream import StreamInspector, Verdict

MOST_HELD: Final = 256 << 20  # bytes of all connections: repetitions, gaps and objects
Found = Iterator[tuple[Flow, Finding]]
_Key = frozenset[Endpoint]


@dataclass(slots=True)
class _Connection:
    flow: Flow
    inspector: StreamInspector | None  # None: it was refused, nothing more of it is read
    judge: Judge
    sides: tuple[Side, Side] = field(default_factory=lambda: (Side(), Side()))
    released: int = 0  # bytes that no parser holds back
    weight: int = 0

    @property
    def is_over(self) -> bool:
        return self.inspector is None or all(one.ended for one in self.sides)

    @property
    def size(self) -> int:
        """About how many bytes of memory its content takes."""
        if self.inspector is None:
            return 0
        unread = sum(one.delivered for one in self.sides) - self.released
        return self.inspector.kept + unread + sum(one.size for one in self.sides)

    def way(self, source: Endpoint) -> Direction:
        return Direction.TO_SERVER if source == self.flow.client else Direction.TO_CLIENT

    def gives_way(self, packet: Packet, way: Direction) -> bool:
        """Tell whether a SYN shows that another connection has begun between these ends.

        Receivers ignore a SYN in an open connection (RFC 9293, 3.10.7.4): only the other end's answer to it counts. What
        holds without one: the connection is over, or the capture has one of its directions only.
        """
        side, other = self.sides[way], self.sides[way.other]
        if packet.flags & ACK and other.start is not None:
            return other.is_settled and self.has_rival(packet, way.other)
        if side.began_at(packet.sequence + 1):
            return False
        if self.is_over:
            return True
        seen_one_way = side.start is None or other.start is None
        return seen_one_way and (side.is_settled or other.is_settled)

    def has_rival(self, packet: Packet, way: Direction) -> bool:
        """Tell whether a packet acknowledges a beginning of one direction that was not taken for it."""
        return bool(packet.flags & ACK) and packet.acknowledged in self.sides[way].rivals


class Connections:
    """All connections that are open, and the latest of those that are over."""

    def __init__(self, selection: Selection, limits: Limits, summary: Summary, tell: Tell) -> None:
        self._selection, self._limits, self._summary, self._tell = selection, limits, summary, tell
        self._open: OrderedDict[_Key, _Connection] = OrderedDict()
        self._held = 0

    def segment(self, packet: Packet) -> Found:
        """Yield what is found with the next segment."""
        if packet.flags & RST:
            # whether its receiver took it shows in what follows: after one that it took, nothing does
            self._summary.leave_out("resets with data, which nobody reads", bool(packet.payload))
            return
        source = packet.source, packet.source_port
        destination = packet.destination, packet.destination_port
        key = frozenset({source, destination})
        known = former = self._open.get(key)
        if known is not None and packet.flags & SYN and known.gives_way(packet, known.way(source)):
            yield from self._forget(key)
            known = None
        if known is None:
            known = self._begin(packet, source, destination)
            if known is None:
                return
            if former is not None and former.has_rival(packet, former.way(destination)):
                known.sides[known.way(destination)].begin(packet.acknowledged)
            self._open[key] = known
        self._open.move_to_end(key)
        if known.inspector is not None:
            yield from self._take(known, packet, known.way(source))
            self._weigh(known)
        while len(self._open) > MOST_FLOWS or (self._held > MOST_HELD and len(self._open) > 1):
            oldest, connection = next(iter(self._open.items()))
            self._summary.leave_out(
                "connections forgotten while open: too many or too much at once", not connection.is_over
            )
            yield from self._forget(oldest)

    def finish(self) -> Found:
        """Yield what is found where connections have no end."""
        while self._open:
            yield from self._forget(next(iter(self._open)))

    def _begin(self, packet: Packet, source: Endpoint, destination: Endpoint) -> _Connection | None:
        sends, takes = Flow("tcp", source, destination), Flow("tcp", destination, source)
        if packet.flags & SYN:
            found = self._selection.find(TCP, takes if packet.flags & ACK else sends)
        else:  # the higher port is likely the client's
            found = self._selection.find(
                TCP, *((sends, takes) if source[1] >= destination[1] else (takes, sends))
            )
        if found is None:
            return None
        flow, judge = found
        self._summary.leave_out(
            "connections without their beginning (inspected from where they are seen)",
            not packet.flags & SYN,
        )
        inspector = StreamInspector(
            judge.spec,
            judge.patterns,
            self._limits,
            judge.fingerprints,
            judge.track(flow.client, flow.server),
        )
        return _Connection(flow, inspector, judge)

    def _take(self, connection: _Connection, packet: Packet, way: Direction) -> Found:
        side = connection.sides[way]
        ended = side.ended
        if packet.flags & ACK:
            connection.sides[way.other].acknowledge(packet.acknowledged)
        try:
            for piece in side.take(packet):
                if connection.inspector is not None:
                    yield from self._apply(connection, connection.inspector.feed(way, piece))
        except Refusal as refusal:
            yield connection.flow, refusal.finding().at(way, _spoken(connection))
            self._cut(connection)
        if side.ended and not ended and connection.inspector is not None:
            yield from self._apply(connection, connection.inspector.end(way))

    def _apply(self, connection: _Connection, verdict: Verdict) -> Found:
        connection.released = sum(verdict.release)
        for finding in verdict.findings:
            yield connection.flow, finding
        for job in verdict.jobs:
            if connection.inspector is not None and verdict.cut is None:
                found = connection.judge.judge(
                    job.data, job.name, job.media_type, whole=job.whole, as_sent=job.as_sent
                )
                yield from self._apply(connection, connection.inspector.judged(job.number, found))
        if verdict.cut is not None:
            self._cut(connection)

    def _cut(self, connection: _Connection) -> None:
        if connection.inspector is not None:
            self._close(connection, connection.inspector)
            self._summary.refused_flows += 1

    def _close(self, connection: _Connection, inspector: StreamInspector) -> None:
        """Count and tell of a connection, and free all that is kept of it."""
        spoken = inspector.protocol or "none"
        self._summary.protocols[spoken] += 1
        notes = tuple(inspector.notes)
        self._tell(Learnt(connection.flow, spoken, notes, inspector.noted - len(notes)))
        inspector.close()
        connection.inspector = None
        for side in connection.sides:
            self._summary.leave_out("segments behind a gap", len(side.waiting))
            side.clear()

    def _weigh(self, connection: _Connection) -> None:
        self._held += connection.size - connection.weight
        connection.weight = connection.size

    def _forget(self, key: _Key) -> Found:
        """Judge what an incomplete connection held back, and count what was not read."""
        connection = self._open.pop(key)
        self._held -= connection.weight
        for way in Direction:
            side = connection.sides[way]
            self._summary.leave_out("segments from before their connection's beginning", side.skipped)
            if connection.inspector is not None:
                yield from self._apply(connection, connection.inspector.pause(way))
        if connection.inspector is not None:
            self._close(connection, connection.inspector)


def _spoken(connection: _Connection) -> str:
    return connection.inspector.protocol if connection.inspector else ""
