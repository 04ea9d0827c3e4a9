"""Inspect datagrams: UDP and ICMP echo. Pure: a packet in, a verdict out; the driver receives and answers."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from filters.inspection.assignments import Assignment, Assignments
from filters.inspection.finding import Direction, Finding, Refusal
from filters.inspection.matching.scanner import Match, Scanner
from filters.inspection.objects.judge import Judge
from filters.inspection.offline.packet import ICMP, UDP, Packet, Unreadable, parse_ip, parse_transport
from filters.inspection.patterns.pattern import redact
from filters.inspection.protocols.dns import TunnelWatch, parse_message
from filters.inspection.spec import InspectionSpec, OnError
from filters.reason import DropReason

if TYPE_CHECKING:
    from filters.inspection.fingerprints.engine import Watch

MOST_FLOWS: Final = 4096
IDLE_S: Final = 120.0  # RFC 4787 REQ-5: what UDP mappings may be forgotten after
_ECHO_REQUEST, _ECHO_REPLY = b"\x08\0", b"\0\0"

Endpoint = tuple[str, int]
_Key = tuple[int, Endpoint, Endpoint]


@dataclass(slots=True)
class DatagramFlow:
    """Datagrams between one client and one server. A match may span several of them, in the order they came."""

    transport: int
    client: Endpoint
    server: Endpoint
    assignment: Assignment
    judge: Judge
    spoken: str = ""
    seen_at: float = 0.0
    cut: DropReason | None = None
    scanners: dict[Direction, Scanner] = field(default_factory=dict)
    watches: "dict[Direction, Watch]" = field(default_factory=dict)
    lengths: list[int] = field(default_factory=lambda: [0, 0])

    def inspect(
        self, direction: Direction, payload: bytes, tunnel: Callable[[], TunnelWatch]
    ) -> list[Finding]:
        """Return what is found in the next datagram; `tunnel` is asked for where DNS is spoken."""
        self.lengths[direction] += len(payload)
        try:
            texts = self._read(payload, tunnel)
        except Refusal as refusal:
            return [self._placed(refusal.finding(), direction)]
        scanner = self.scanners.get(direction)
        if scanner is None:
            scanner = self.scanners[direction] = Scanner(self.judge.patterns)
        found = [self._matched(match, direction) for match in scanner.scan(payload)]
        found += self._recognised(direction, payload)
        # alone as well: a datagram's ends are ends, whatever its neighbours begin or end with
        alone = b"\n".join((payload, *texts)) if texts else payload
        found += [self._placed(one, direction) for one in self.judge.text(alone, "")]
        found += [self._placed(one, direction) for one in self._rules(direction, payload)]
        return list({one.check: one for one in found}.values())

    def _read(self, payload: bytes, tunnel: Callable[[], TunnelWatch]) -> tuple[bytes, ...]:
        """Read what the first datagram shows to be DNS; it stays that."""
        wanted = self.judge.spec.protocol
        if self.transport == UDP and self.spoken in ("", "dns"):
            try:
                message = parse_message(payload)
            except Refusal:
                if self.spoken == "dns" or wanted == "dns" or self.server[1] == 53:
                    raise
            else:
                if message.names or message.questions or self.spoken == "dns":
                    self.spoken = "dns"
                    for name in message.questions:
                        tunnel().see(name)
        self.spoken = self.spoken or ("udp" if self.transport == UDP else "icmp")
        if wanted is not None and wanted != self.spoken:
            detail = f"expected {wanted}; these datagrams are none of it"
            raise Refusal("protocol", detail, DropReason.UNKNOWN_PROTOCOL)
        return (*message.questions, *message.names, *message.texts) if self.spoken == "dns" else ()

    def _rules(self, direction: Direction, payload: bytes) -> list[Finding]:
        """Return what users' rules say of one DNS message: each stands alone."""
        tracker = self.judge.track(self.client, self.server, is_tcp=False) if self.spoken == "dns" else None
        if tracker is None:
            return []
        try:
            message = parse_message(payload)
            tracker.stream(direction, payload)
            if not message.is_answer:
                tracker.fields(direction, "dns", [("dns.query", name) for name in message.questions])
            return tracker.conclude("dns")
        except Refusal as refusal:
            return [refusal.finding()]
        finally:
            tracker.close()

    def _matched(self, match: Match, direction: Direction) -> Finding:
        one = match.pattern
        return self._placed(Finding(one.reason, one.name, one.detail, evidence=redact(match.text)), direction)

    def _recognised(self, direction: Direction, payload: bytes) -> list[Finding]:
        """Return which protected documents are recognised by this datagram and those before."""
        if self.judge.fingerprints is None:
            return []
        if direction not in self.watches:
            self.watches[direction] = self.judge.fingerprints.watch()
        found = self.watches[direction].scan("datagrams", payload)
        return [self._placed(one, direction) for one in found]

    def _placed(self, finding: Finding, direction: Direction) -> Finding:
        return finding.at(direction, self.spoken, "", self.lengths[direction])

    def close(self) -> None:
        """Free what the engines hold."""
        for scanner in self.scanners.values():
            scanner.close()


class Datagrams:
    """All flows of datagrams. `told` hears each finding with its flow."""

    def __init__(
        self,
        judge: Callable[[InspectionSpec], Judge],
        lacking: Callable[[InspectionSpec], frozenset[str]],
        told: Callable[[DatagramFlow, Finding], None],
    ) -> None:
        self._judge, self._lacking, self._told = judge, lacking, told
        self._flows: OrderedDict[_Key, DatagramFlow] = OrderedDict()
        self._tunnels: OrderedDict[tuple[str, str], TunnelWatch] = OrderedDict()

    def verdict(self, untrusted_packet: bytes, assignments: Assignments, now: float) -> DropReason | None:
        """Return why an IPv4 packet must not pass, or None: it may. `now` in seconds of any steady clock."""
        try:
            packet, asks = _read(untrusted_packet)
        except Unreadable:
            return DropReason.PARSE_ERROR
        flow, direction = self._flow(packet, asks, assignments, now)
        if flow is None:
            return DropReason.INSPECTOR_DOWN  # nobody said how to inspect it
        if flow.cut is not None:
            return flow.cut
        for finding in flow.inspect(direction, packet.payload, lambda: self._tunnel(flow)):
            self._told(flow, finding)
            passes = flow.assignment.spec.on_error is OnError.PASS and finding.reason in _CONDITIONS
            if finding.cuts and not passes:
                flow.cut = flow.cut or finding.reason
        return flow.cut

    def _flow(
        self, packet: Packet, asks: bool | None, assignments: Assignments, now: float
    ) -> tuple[DatagramFlow | None, Direction]:
        source, destination = (
            (packet.source, packet.source_port),
            (packet.destination, packet.destination_port),
        )
        answered = self._known((packet.protocol, destination, source), now) if asks is not True else None
        if answered is not None:
            return answered, Direction.TO_CLIENT
        key = (packet.protocol, source, destination)
        known = self._known(key, now)
        found = assignments.find(packet.protocol, source[0], destination[0], destination[1])
        if known is not None and found is known.assignment:
            return known, Direction.TO_SERVER
        if found is None or asks is False:
            return None, Direction.TO_SERVER
        return self._begin(key, found, now), Direction.TO_SERVER

    def _known(self, key: _Key, now: float) -> DatagramFlow | None:
        flow = self._flows.get(key)
        if flow is None:
            return None
        if now - flow.seen_at > IDLE_S:
            self._flows.pop(key).close()
            return None
        flow.seen_at = now
        self._flows.move_to_end(key)
        return flow

    def _begin(self, key: _Key, found: Assignment, now: float) -> DatagramFlow:
        transport, client, server = key
        flow = DatagramFlow(transport, client, server, found, self._judge(found.spec), seen_at=now)
        if lacking := self._lacking(found.spec):
            flow.cut = DropReason.INSPECTOR_DOWN
            detail = f"the rule demands {', '.join(sorted(lacking))}, and no file of yours says what that is"
            self._told(flow, Finding(DropReason.INSPECTOR_DOWN, "material", detail))
        if former := self._flows.pop(key, None):
            former.close()
        self._flows[key] = flow
        if len(self._flows) > MOST_FLOWS:
            self._flows.popitem(last=False)[1].close()
        return flow

    def _tunnel(self, flow: DatagramFlow) -> TunnelWatch:
        pair = flow.client[0], flow.server[0]
        watch = self._tunnels.setdefault(pair, TunnelWatch())
        self._tunnels.move_to_end(pair)
        if len(self._tunnels) > MOST_FLOWS:
            self._tunnels.popitem(last=False)
        return watch


def _read(data: bytes) -> tuple[Packet, bool | None]:
    """Return a packet, and whether ICMP asks (None: its ports say); raises Unreadable."""
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


_CONDITIONS: Final = frozenset({DropReason.PARSE_ERROR, DropReason.RESOURCE_LIMIT})
