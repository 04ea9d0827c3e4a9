"""Run the inspectors on a capture or a file: what the gateway would have said."""

from collections.abc import Iterator

from filters.inspection.finding import Finding, Refusal
from filters.inspection.limits import DEFAULT_LIMITS, Limits
from filters.inspection.objects.judge import Judge
from filters.inspection.offline.capture import Capture, Frame
from filters.inspection.offline.connections import Connections
from filters.inspection.offline.datagram_flows import DatagramFlows
from filters.inspection.offline.fragments import Fragments
from filters.inspection.offline.link import strip_link
from filters.inspection.offline.selection import Choose, Selection
from filters.inspection.offline.summary import Event, Flow, Summary, Tell
from filters.inspection.packet import TCP, Unreadable, parse_ip, parse_whole
from filters.reason import DropReason


class Twin:
    """Inspect one capture. Iterate over `events`, then read `summary`."""

    def __init__(
        self, judge: Judge | Choose, limits: Limits = DEFAULT_LIMITS, tell: Tell = lambda _: None
    ) -> None:
        """judge: what inspects every flow, or chooses by protocol, client and server; None: that flow is not inspected.

        tell: hears of each flow when it is over.
        """
        choose: Choose = (lambda _, __, ___: judge) if isinstance(judge, Judge) else judge
        self.summary = Summary()
        selection = Selection(choose, self.summary)
        self._fragments = Fragments()
        self._connections = Connections(selection, limits, self.summary, tell)
        self._datagrams = DatagramFlows(selection, self.summary, tell)

    def events(self, capture: Capture) -> Iterator[Event]:
        """Yield what is found, in the order of the frames; ends of connections that the capture lacks come last."""
        last: Frame | None = None
        for frame in capture:
            last = frame
            self.summary.frames += 1
            for flow, finding in self._frame(frame):
                yield self._event(finding, flow, frame)
        for flow, finding in self._connections.finish():
            yield self._event(finding, flow, last)
        self._datagrams.finish()
        self.summary.leave_out("fragments of incomplete datagrams", self._fragments.left)
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
            self.summary.leave_out(str(reason))
            return
        except Refusal as refusal:
            yield None, refusal.finding()
            return
        self.summary.bytes += len(packet.payload)
        if packet.protocol == TCP:
            yield from self._connections.segment(packet)
        else:
            yield from self._datagrams.datagram(packet, frame.time)


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
