"""Inspect datagrams: UDP and ICMP echo. Pure: a packet in, a verdict out; the driver receives and answers."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from filters.inspection.assignments import Assignment, Assignments
from filters.inspection.datagram_header import PLAIN_HEADERS, pack_ends, plain_ends, read_datagram
from filters.inspection.finding import Direction, Finding, Refusal
from filters.inspection.matching.scanner import Match, Scanner
from filters.inspection.objects.judge import Judge
from filters.inspection.packet import UDP, Packet, Unreadable
from filters.inspection.patterns.pattern import redact
from filters.inspection.protocols.dns import parse_message
from filters.inspection.protocols.dns_tunnel import TunnelWatch
from filters.inspection.spec import InspectionSpec, OnError
from filters.reason import DropReason
from filters.shares import Shares

if TYPE_CHECKING:
    from filters.inspection.fingerprints.engine import Watch

MOST_FLOWS: Final = 4096
IDLE_S: Final = 120.0  # RFC 4787 REQ-5: what UDP mappings may be forgotten after

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
    agreed: Assignments | None = None  # the latest that assign it as it is
    settled: bool = False  # it is none that is read further

    def inspect(
        self, direction: Direction, payload: bytes, tunnel: Callable[[], TunnelWatch]
    ) -> Sequence[Finding]:
        """Return what is found in the next datagram; `tunnel` is asked for where DNS is spoken."""
        self.lengths[direction] += len(payload)
        texts: tuple[bytes, ...] = ()
        refused: list[Finding] = []
        if not self.settled:
            try:
                texts = self._read(payload, tunnel)
            except Refusal as refusal:  # scanned all the same: the rule may say that it passes
                refused.append(self._placed(refusal.finding(), direction))
        scanner = self.scanners.get(direction)
        if scanner is None:
            scanner = self.scanners[direction] = Scanner(self.judge.patterns)
        matches = scanner.scan(payload)
        # alone as well: a datagram's ends are ends, whatever its neighbours begin or end with
        alone = b"\n".join((payload, *texts)) if texts else payload
        if not matches and self._is_clean(scanner, alone, looked=not texts):
            return refused
        found = refused + [self._matched(match, direction) for match in matches]
        found += self._recognised(direction, payload)
        found += [self._placed(one, direction) for one in self.judge.text(alone, "")]
        found += [self._placed(one, direction) for one in self._rules(direction, payload)]
        return list({one.check: one for one in found}.values())

    def _is_clean(self, scanner: Scanner, alone: bytes, *, looked: bool) -> bool:
        """Tell whether nothing is in a datagram for sure. `looked`: the stream had it as it stands alone.

        What the first stage finds in a part of a stream it finds in the stream: then one look is enough for both.
        """
        if self.judge.fingerprints or self.judge.rules:
            return False
        patterns = self.judge.patterns
        if looked:
            return patterns.stands_alone and not scanner.struck
        return not patterns.may_match(alone)

    def _read(self, payload: bytes, tunnel: Callable[[], TunnelWatch]) -> tuple[bytes, ...]:
        """Read what the first datagram shows to be DNS; it stays that."""
        wanted = self.judge.spec.protocol
        # also one without names: servers pass over it, and read the next
        must = self.spoken == "dns" or wanted == "dns" or self.server[1] == 53
        if self.transport == UDP and self.spoken in ("", "dns"):
            try:
                message = parse_message(payload)
            except Refusal:
                if must:
                    raise
            else:
                if message.names or message.questions or must:
                    self.spoken = "dns"
                    watch = tunnel()
                    for name in message.chosen:
                        watch.see(name)
        self.spoken = self.spoken or ("udp" if self.transport == UDP else "icmp")
        if wanted is not None and wanted != self.spoken:
            detail = f"expected {wanted}; these datagrams are none of it"
            raise Refusal("protocol", detail, DropReason.UNKNOWN_PROTOCOL)
        self.settled = self.spoken != "dns"
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
        self._flows: OrderedDict[_Key, DatagramFlow] = OrderedDict()  # those that were seen latest are last
        self._shares = Shares(MOST_FLOWS)
        # by client those that may be forgotten for newer ones: a cut one must stay cut
        self._own: defaultdict[str, OrderedDict[_Key, None]] = defaultdict(OrderedDict)
        self._ways: dict[bytes, tuple[DatagramFlow, Direction]] = {}  # UDP flows by what stands in a packet
        self._tunnels: OrderedDict[tuple[str, str], TunnelWatch] = OrderedDict()

    def verdict(self, untrusted_packet: bytes, assignments: Assignments, now: float) -> DropReason | None:
        """Return why an IPv4 packet must not pass, or None: it may. `now` in seconds of any steady clock."""
        way = self._ways.get(plain_ends(untrusted_packet))
        if way is not None and self._goes_on(*way, assignments, now):
            return self._judged(*way, untrusted_packet[PLAIN_HEADERS:])
        try:
            packet, asks = read_datagram(untrusted_packet)
        except Unreadable:
            return DropReason.PARSE_ERROR
        flow, direction = self._flow(packet, asks, assignments, now)
        if flow is None:
            return DropReason.INSPECTOR_DOWN  # nobody said how to inspect it
        return self._judged(flow, direction, packet.payload)

    def _goes_on(
        self, flow: DatagramFlow, direction: Direction, assignments: Assignments, now: float
    ) -> bool:
        """Tell whether a packet belongs to a flow as it was before."""
        if now - flow.seen_at > IDLE_S or not (direction or flow.agreed is assignments):
            return False
        self._seen((flow.transport, flow.client, flow.server), flow, now)
        return True

    def _seen(self, key: _Key, flow: DatagramFlow, now: float) -> None:
        flow.seen_at = now
        self._flows.move_to_end(key)
        if flow.cut is None:
            self._own[flow.client[0]].move_to_end(key)

    def _judged(self, flow: DatagramFlow, direction: Direction, payload: bytes) -> DropReason | None:
        if flow.cut is not None:
            return flow.cut
        for finding in flow.inspect(direction, payload, lambda: self._tunnel(flow)):
            self._told(flow, finding)
            passes = flow.assignment.spec.on_error is OnError.PASS and finding.reason in _CONDITIONS
            if finding.cuts and not passes:
                flow.cut = flow.cut or finding.reason
        if flow.cut is not None:
            self._disown((flow.transport, flow.client, flow.server))  # a newer one must not end the cut
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
            known.agreed = assignments
            return known, Direction.TO_SERVER
        if found is None or asks is False:
            return None, Direction.TO_SERVER
        return self._begin(key, found, now), Direction.TO_SERVER

    def _known(self, key: _Key, now: float) -> DatagramFlow | None:
        flow = self._flows.get(key)
        if flow is None:
            return None
        if now - flow.seen_at > IDLE_S:
            self._forget(key)
            return None
        self._seen(key, flow, now)
        return flow

    def _begin(self, key: _Key, found: Assignment, now: float) -> DatagramFlow:
        transport, client, server = key
        flow = DatagramFlow(transport, client, server, found, self._judge(found.spec), seen_at=now)
        if key in self._flows:
            self._forget(key)
        if not self._makes_room(client[0], now):
            flow.cut = DropReason.RESOURCE_LIMIT
            return flow
        if lacking := self._lacking(found.spec):
            flow.cut = DropReason.INSPECTOR_DOWN
            detail = f"the rule demands {', '.join(sorted(lacking))}, and no file of yours says what that is"
            self._told(flow, Finding(DropReason.INSPECTOR_DOWN, "material", detail))
        self._flows[key] = flow
        self._own[client[0]][key] = None
        if transport == UDP:
            self._ways[pack_ends(client, server)] = flow, Direction.TO_SERVER
            self._ways[pack_ends(server, client)] = flow, Direction.TO_CLIENT
        return flow

    def _makes_room(self, client: str, now: float) -> bool:
        """Take a client's share for one flow more; beyond that its own oldest go, never another's and no cut one."""
        while self._flows:
            key, oldest = next(iter(self._flows.items()))
            if now - oldest.seen_at <= IDLE_S:
                break
            self._forget(key)
        while not self._shares.take((client,)):
            if client not in self._own:
                return False
            self._forget(next(iter(self._own[client])))
        return True

    def _forget(self, key: _Key) -> None:
        flow = self._flows.pop(key)
        flow.close()
        self._shares.give((flow.client[0],))
        self._disown(key)
        if flow.transport == UDP:
            for ends in (pack_ends(flow.client, flow.server), pack_ends(flow.server, flow.client)):
                self._ways.pop(ends, None)

    def _disown(self, key: _Key) -> None:
        client = key[1][0]
        if own := self._own.get(client):
            own.pop(key, None)
            if not own:
                del self._own[client]

    def _tunnel(self, flow: DatagramFlow) -> TunnelWatch:
        pair = flow.client[0], flow.server[0]
        watch = self._tunnels.get(pair)
        if watch is None:
            watch = self._tunnels[pair] = TunnelWatch()
        self._tunnels.move_to_end(pair)
        if len(self._tunnels) > MOST_FLOWS:
            self._tunnels.popitem(last=False)
        watch.age(flow.seen_at)
        return watch


_CONDITIONS: Final = frozenset({DropReason.PARSE_ERROR, DropReason.RESOURCE_LIMIT})
