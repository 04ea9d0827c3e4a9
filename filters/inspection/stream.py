"""Inspect one TCP connection: bytes of both directions in, decisions out. Pure; the driver reads and writes."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from filters.inspection.coding.said import READINGS, Said
from filters.inspection.finding import Direction, Finding, LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.matching.database import Database
from filters.inspection.matching.scanner import Match, Scanner
from filters.inspection.objects.as_sent import AsSent
from filters.inspection.objects.holding import ObjectStore, is_container, is_endless
from filters.inspection.parser import Parser
from filters.inspection.patterns.pattern import REACH, redact
from filters.inspection.protocols.identify import LONGEST, Guess, greets, guess
from filters.inspection.protocols.opaque import Opaque
from filters.inspection.protocols.registry import open_parser
from filters.inspection.spec import Hold, InspectionSpec, OnError
from filters.inspection.suricata.tracker import RuleTracker
from filters.reason import DropReason

if TYPE_CHECKING:
    from filters.inspection.fingerprints.engine import Engine as Fingerprints

NOTES: Final = 256  # kept of what a connection's parser learnt


@dataclass(frozen=True, slots=True)
class Job:
    """An object to judge: give what was found to `StreamInspector.judged`."""

    number: int
    direction: Direction
    name: str
    media_type: str
    data: bytes
    whole: bool
    as_sent: tuple[AsSent, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may happen now. `release` counts each direction's bytes from its beginning: up to there they may go on.

    With `cut` set nothing more may go on, whatever was released before; `jobs` have to be judged first.
    """

    release: tuple[int, int]
    findings: tuple[Finding, ...] = ()
    jobs: tuple[Job, ...] = ()
    cut: Finding | None = None


class StreamInspector:
    """See `parser.Sink` for what parsers say to it. Not for use after a verdict with `cut`."""

    def __init__(
        self,
        spec: InspectionSpec,
        patterns: Database,
        limits: Limits,
        fingerprints: "Fingerprints | None" = None,
        rules: RuleTracker | None = None,
    ) -> None:
        self._spec, self._patterns, self._limits, self._rules = spec, patterns, limits, rules
        self._watches = (fingerprints.watch(), fingerprints.watch()) if fingerprints else None
        self._parser: Parser | None = None
        self._for_now = False  # the parser reads plain bytes until the protocol is known
        self._guesses: list[Guess | None] = [None, None]
        self._start = [bytearray(), bytearray()]  # until the protocol is known
        self._ended = [False, False]
        self._fed, self._released = [0, 0], [0, 0]
        self._sure = [0, 0]  # where the piece began after which a match has been in doubt
        # where a refusal passes: what was not released yet, and as much before it as a match may span
        self._kept = [bytearray(), bytearray()]
        self._scanners: dict[tuple[Direction, str], Scanner] = {}
        self._said: dict[tuple[Direction, str], Said] = {}
        self._objects = (ObjectStore(limits), ObjectStore(limits))
        self._judging: dict[int, Direction] = {}
        self._asked: dict[int, int] = {}  # bytes of what is being judged
        self._jobs: list[Job] = []
        self._numbered = 0
        self._hits = 0  # possible matches in the latest piece
        self._new: list[Finding] = []
        self._cut: Finding | None = None
        self.notes: deque[tuple[str, dict[str, str]]] = deque(maxlen=NOTES)  # the latest
        self.noted = 0  # all there were

    @property
    def protocol(self) -> str:
        """What is spoken, as far as the bytes have shown it."""
        return self._parser.protocol if self._parser else ""

    def feed(self, direction: Direction, data: bytes) -> Verdict:
        """Take the next bytes of one direction."""
        self._hits = 0
        self._objects[direction].new_piece(self._fed[direction])
        if not self._in_doubt(direction):
            self._sure[direction] = self._fed[direction]
        self._fed[direction] += len(data)
        if self._spec.on_error is OnError.PASS:
            self._kept[direction] += data
        return self._guarded(direction, data)

    def end(self, direction: Direction) -> Verdict:
        """Say that a direction was closed in order (FIN)."""
        self._ended[direction] = True
        return self._guarded(direction, None)

    def pause(self, direction: Direction) -> Verdict:
        """Say that nothing came for a while: what is held only for what might follow is judged as it is."""
        if self._parser is None and not self._spec.protocol:
            self._read_for_now()
        self._settle(direction)
        store = self._objects[direction]
        if store.may_be_judged_early and self._spec.hold is Hold.PIECE and not self._waits(direction):
            self._ask(direction, whole=False)
            store.lagging = False
        self._rules_found()
        return self._verdict()

    def judged(self, number: int, findings: list[Finding]) -> Verdict:
        """Take what judging an object found."""
        direction = self._judging.pop(number)
        del self._asked[number]
        for one in findings:
            self._find(one.at(direction, self.protocol, offset=self._fed[direction]))
        return self._verdict()

    @property
    def kept(self) -> int:
        """Return how many bytes of objects are kept until they are judged: they may be many times what came."""
        return sum(one.size for one in self._objects) + sum(self._asked.values())

    def close(self) -> None:
        """Free what the engines hold."""
        for scanner in self._scanners.values():
            scanner.close()
        for store in self._objects:
            store.close()
        if self._rules:
            self._rules.close()

    # -- what parsers say: see parser.Sink

    def text(self, direction: Direction, channel: str, data: bytes) -> None:
        """See Sink."""
        self._scan(direction, channel, data)
        said = self._said.get((direction, channel))
        if said is None:
            said = self._said[direction, channel] = Said()
        for how, text in said.feed(data):
            if text is None:
                self._forget(direction, f"{channel}, {how}")
            else:
                self._scan(direction, f"{channel}, {how}", text)

    def _scan(self, direction: Direction, channel: str, data: bytes) -> None:
        scanner = self._scanners.get((direction, channel))
        if scanner is None:
            scanner = self._scanners[direction, channel] = Scanner(self._patterns)
        for match in scanner.scan(data):
            self._matched(direction, channel, match)
        self._hits += scanner.take_hits()
        if self._hits > self._limits.hits:
            raise LimitHit("hits", self._limits.hits, " possible matches in one piece")
        if self._watches:
            for found in self._watches[direction].scan(channel, data):
                self._found_in(direction, channel, found)

    def fresh(self, direction: Direction, channel: str) -> None:
        """See Sink."""
        if said := self._said.pop((direction, channel), None):
            for how, text in said.finish():
                self._scan(direction, f"{channel}, {how}", text)
        for one in (channel, *(f"{channel}, {how}" for how in READINGS)):
            scanner = self._scanners.get((direction, one))
            if scanner and scanner.doubtful:
                self._matched(direction, one, scanner.doubtful)
            self._forget(direction, one)

    def fields(
        self, direction: Direction, protocol: str, read: Callable[[], list[tuple[str, bytes]]]
    ) -> None:
        """See Sink."""
        if self._rules:
            self._rules.fields(direction, protocol, read())

    def begin_object(
        self, direction: Direction, name: str, media_type: str, *, only_files: bool = False
    ) -> None:
        """See Sink."""
        if self._rules and not only_files:
            self._rules.begin_body(direction)
        has_parts = is_container(media_type) and not is_endless(media_type)
        wanted = self._spec.wants_objects or has_parts
        self._objects[direction].begin(name, media_type, wanted=wanted, only_files=only_files)
        if media_type:
            self._said[direction, "object"] = Said(media_type)

    def object_data(self, direction: Direction, data: bytes) -> None:
        """See Sink."""
        self.text(direction, "object", data)
        store = self._objects[direction]
        was_file = store.is_file
        body = store.look(data) if self._rules or store.wanted else b""
        if self._rules and store.is_file:
            if not was_file:  # only now it is known that the message is one
                self._rules.begin_body(direction)
            self._rules.body(direction, body)
        store.add(data)

    def coded(self, direction: Direction, level: int, coding: str, data: bytes, *, shown: bool) -> None:
        """See Sink."""
        if self._spec.wants_objects:
            self._objects[direction].add_coded(level, coding, data, shown=shown)

    def end_object(self, direction: Direction) -> None:
        """See Sink."""
        self.fresh(direction, "object")
        if self._rules:
            self._rules.end_body(direction)
        store = self._objects[direction]
        if store.wanted and store.is_worth_judging:
            self._ask(direction, whole=True)
        store.end()

    def partial_object(self, direction: Direction, detail: str) -> None:
        """See Sink."""
        if self._spec.wants_objects and not self._spec.partial_objects:
            raise Refusal("partial-object", f"{detail}: it can't be judged as a whole")

    def note(self, kind: str, **facts: str) -> None:
        """See Sink."""
        self.noted += 1
        self.notes.append((kind, facts))

    # -- inside

    def _guarded(self, direction: Direction, data: bytes | None) -> Verdict:
        try:
            try:
                if self._rules and data:
                    self._rules.stream(direction, data)
            finally:
                self._take(direction, data)
        except Refusal as refusal:
            found = refusal.finding().at(direction, self.protocol, offset=self._fed[direction])
            if self._spec.on_error is OnError.DROP or self.protocol == "opaque":
                self._find(found)
            else:
                self._rules_found()  # what was read is judged as what it was
                self._go_on_blindly(found)
        self._rules_found()
        return self._verdict()

    def _take(self, direction: Direction, data: bytes | None) -> None:
        if self._parser is None or self._for_now:
            self._identify(direction, data)
        elif data is not None:
            self._parser.feed(
                direction, data
            )  # first: where the rule says `pass`, what follows is not looked at again
            self._check_other_start(direction, data)
        else:
            self._parser.end(direction)
            self._settle(direction)

    def _identify(self, direction: Direction, data: bytes | None) -> None:
        start = self._start[direction]
        start += data or b""
        self._guesses[direction] = guess(direction, bytes(start)) or (
            Guess.OTHER if data is None and start else None
        )
        if direction is Direction.TO_CLIENT and self._spec.protocol == "smtp" and greets(bytes(start)):
            self._guesses[direction] = Guess.SMTP
        known = self._guesses[direction]
        if self._parser and known is Guess.OTHER:
            self._for_now = False
            self._take(direction, data)
        elif known is not None:
            self._open(known, direction)
        elif data is None and self._ended[direction.other]:
            self._parser = Opaque(self)
        elif self._parser:
            self._parser.feed(direction, data or b"")
        elif not self._spec.protocol and not self._rules:
            self._read_for_now()

    def _read_for_now(self) -> None:
        """Keep nobody waiting: what may still become several things goes on once it was scanned as it is."""
        self._for_now, self._parser = True, Opaque(self)
        for way in Direction:
            self._parser.feed(way, bytes(self._start[way]))

    def _open(self, known: Guess, direction: Direction) -> None:
        if self._for_now:  # its beginning is read once more, now as what it is
            self._for_now, self._parser = False, None
            for way in Direction:
                for one in ("stream", *(f"stream, {how}" for how in READINGS)):
                    self._forget(way, one)
                self._said.pop((way, "stream"), None)
        self._parser = open_parser(known, self._spec, self, self._limits)
        self.note("protocol", name=self._parser.protocol)
        for way in (direction, direction.other):
            held, self._start[way] = (
                bytes(self._start[way]),
                bytearray(),
            )  # from here on: what the other end says first
            if held:
                self._parser.feed(way, held)
                self._check_other_start(way, held)
            if self._ended[way]:
                self._parser.end(way)
                self._settle(way)

    def _check_other_start(self, direction: Direction, data: bytes) -> None:
        """Refuse a connection whose two ends begin in two protocols: they would be read differently elsewhere."""
        if self._guesses[direction] is not None:
            return
        start = self._start[direction]
        start += data[: LONGEST - len(start)]
        seen = self._guesses[direction] = guess(direction, bytes(start))
        if self.protocol == "opaque" and seen not in {None, Guess.OTHER}:
            raise Refusal(
                "protocol-mismatch", f"one end speaks {seen.value if seen else ''}, the other does not"
            )

    def _forget(self, direction: Direction, channel: str) -> None:
        if self._watches:
            self._watches[direction].fresh(channel)
        if scanner := self._scanners.pop((direction, channel), None):
            scanner.close()

    def _go_on_blindly(self, found: Finding) -> None:
        """Where the rule says `pass`: note it, and scan as plain bytes what was not released yet and what follows."""
        self._new.append(found)
        for store in self._objects:
            store.end()
        for way, channel in list(self._scanners):
            self.fresh(way, channel)  # nothing more comes there
        self._parser = Opaque(self, blindly=True)
        for way in Direction:
            self._parser.feed(way, bytes(self._kept[way]))

    def _rules_found(self) -> None:
        """Find what users' rules say of all that was read."""
        for one in self._rules.conclude(self.protocol, sure=not self._for_now) if self._rules else ():
            if one.direction is not None:
                protocol = one.protocol or self.protocol
                self._find(one.at(one.direction, protocol, offset=self._fed[one.direction]))

    def _matched(self, direction: Direction, channel: str, match: Match) -> None:
        one = match.pattern
        found = Finding(one.reason, one.name, one.detail, evidence=redact(match.text))
        self._found_in(direction, channel, found)

    def _found_in(self, direction: Direction, channel: str, found: Finding) -> None:
        inside = "body" if channel.startswith("object") else ""
        self._find(found.at(direction, self.protocol, inside, self._fed[direction]))

    def _settle(self, direction: Direction) -> None:
        """Nothing follows: what only the next byte could have made harmless is a match."""
        for (way, channel), scanner in self._scanners.items():
            if way is direction and scanner.doubtful:
                self._matched(direction, channel, scanner.doubtful)
                scanner.doubtful = None

    def _ask(self, direction: Direction, *, whole: bool) -> None:
        store = self._objects[direction]
        self._numbered += 1
        self._judging[self._numbered] = direction
        self._asked[self._numbered] = store.size
        data, sent = store.so_far(), store.as_sent()
        self._jobs.append(Job(self._numbered, direction, store.name, store.media_type, data, whole, sent))

    def _find(self, finding: Finding) -> None:
        passes = self._spec.on_error is OnError.PASS and finding.reason in _CONDITIONS
        self._new.append(finding)
        if self._cut is None and finding.cuts and not passes:
            self._cut = finding

    def _in_doubt(self, direction: Direction) -> bool:
        """Tell whether the next byte decides about a match."""
        return any(one.doubtful for (way, _), one in self._scanners.items() if way is direction)

    def _waits(self, direction: Direction) -> bool:
        return direction in self._judging.values()

    def _verdict(self) -> Verdict:
        for direction in Direction:
            if self._cut is None and not self._waits(direction):
                released = max(self._released[direction], self._limit(direction))
                self._released[direction] = released
                if kept := self._kept[direction]:
                    del kept[: max(0, len(kept) - (self._fed[direction] - released) - REACH)]
        findings, self._new = tuple(self._new), []
        jobs, self._jobs = tuple(self._jobs), []
        return Verdict((self._released[0], self._released[1]), findings, jobs, self._cut)

    def _limit(self, direction: Direction) -> int:
        """Return how far this direction may go on, objects under way considered."""
        store = self._objects[direction]
        if self._parser is None:
            return 0
        read = self._fed[direction] - self._parser.waiting(direction)
        if store.is_open and self._spec.hold is Hold.OBJECT:
            return self._released[direction]
        if self._in_doubt(direction):
            return min(read, self._sure[direction])
        if store.is_open and store.wanted and store.lagging:
            return min(read, store.safe)
        return read


_CONDITIONS: Final = frozenset(
    {
        DropReason.PARSE_ERROR,
        DropReason.RESOURCE_LIMIT,
        DropReason.INSPECTOR_TIMEOUT,
        DropReason.INSPECTOR_DOWN,
    }
)
