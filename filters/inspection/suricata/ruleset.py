"""Rules together: compiled for the engine, and the account of what could not be."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from filters.inspection.finding import Direction
from filters.inspection.suricata.addresses import Reader
from filters.inspection.suricata.compile import understand
from filters.inspection.suricata.keywords import BUFFERS, DOTTED_BUFFERS
from filters.inspection.suricata.model import BODIES, RAW, Content, Rule, Unsupported
from filters.inspection.suricata.parser import RawRule, RuleError, read_rules
from filters.inspection.suricata.partly import left_undone
from filters.inspection.suricata.streams import Part, StreamPlan, WordList


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A rule that is not in force, or in part. `keyword` stopped it; a rule that can't be read has none."""

    path: str
    line: int
    column: int
    sid: str
    keyword: str
    detail: str


@dataclass(slots=True)
class Coverage:
    """What became of every rule of some files. `assumed` names the variables that were taken as any.

    in_part: of those loaded, what is not looked at.
    """

    loaded: int = 0
    in_part: list[LeftOut] = field(default_factory=list)
    unsupported: list[LeftOut] = field(default_factory=list)
    broken: list[LeftOut] = field(default_factory=list)
    assumed: set[str] = field(default_factory=set)

    @property
    def is_complete(self) -> bool:
        """Tell whether every rule is in force, be it in part."""
        return not self.unsupported and not self.broken

    @property
    def keywords(self) -> Counter[str]:
        """Count the unsupported rules by what stopped them."""
        return Counter(one.keyword for one in self.unsupported)


class RuleSet:
    """Compiled rules; immutable."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Take rules numbered by their place."""
        self.rules = tuple(rules)
        parts = [Part(rule, group) for rule in self.rules for group in rule.groups]
        self.raw = {way: StreamPlan([one for one in parts if _about(one, way, {RAW})]) for way in Direction}
        self.bodies = {
            way: StreamPlan([one for one in parts if _about(one, way, BODIES)]) for way in Direction
        }
        self._dotted = {
            group.buffer for rule in self.rules for group in rule.groups if group.buffer in DOTTED_BUFFERS
        }
        self.fields = FieldPlan([one for one in self.rules if _only_fields(one)])

    def named(self, pairs: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Return a message's fields, also under the names of their variants that rules ask for."""
        wanted = {DOTTED_BUFFERS[one]: one for one in self._dotted}
        return [*pairs, *((wanted[name], b"." + data) for name, data in pairs if name in wanted)]


def _about(part: Part, way: Direction, buffers: frozenset[str] | set[str]) -> bool:
    return (
        part.group.buffer in buffers and way in part.rule.directions and way in BUFFERS[part.group.buffer][1]
    )


def _only_fields(rule: Rule) -> bool:
    return bool(rule.transaction) and not any(one.buffer in BODIES for one in rule.transaction)


class FieldPlan:
    """Rules about whole fields of messages, each looked for by one literal, in its own buffer."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        lists: defaultdict[str, WordList] = defaultdict(WordList)
        self.meant: defaultdict[str, defaultdict[int, list[Rule]]] = defaultdict(lambda: defaultdict(list))
        self.always: defaultdict[str, list[Rule]] = defaultdict(
            list
        )  # by protocol: no literal has to be there
        for rule in rules:
            if chosen := _chosen(rule):
                buffer, word = chosen
                self.meant[buffer][lists[buffer].number(word)].append(rule)
            else:
                self.always[BUFFERS[rule.transaction[0].buffer][0]].append(rule)
        self.words = {buffer: one.compiled() for buffer, one in lists.items()}

    def candidates(self, protocol: str, pairs: Sequence[tuple[str, bytes]]) -> list[Rule]:
        """Return the rules that may match a message with these fields."""
        found = {one.number: one for one in self.always.get(protocol, ())}
        for buffer, data in pairs:
            words = self.words.get(buffer)
            if words is None:
                continue
            hits: list[int] = []
            watch = words.watch(lambda number, _end, hits=hits: hits.append(number))  # type: ignore[misc]
            watch.scan(data)
            watch.close()
            found |= {rule.number: rule for hit in hits for rule in self.meant[buffer][hit]}
        return list(found.values())


def _chosen(rule: Rule) -> tuple[str, Content] | None:
    """Return the literal that has to be there: the one the rule prefers, or else the longest, rare buffers first."""
    words = [(group.buffer, word) for group in rule.transaction for word in group.words]
    for one in words:
        if rule.preferred is not None and one[1] == rule.preferred:
            return one
    return max(words, key=lambda one: (one[0] != "http.method", len(one[1].data)), default=None)


def load_rules(
    sources: Sequence[tuple[str, str]], variables: Mapping[str, str] | None = None
) -> tuple[RuleSet, Coverage]:
    """Read (path, text) pairs; every rule is either in the set or named in the coverage."""
    coverage, rules = Coverage(), list[Rule]()
    reader = Reader(variables or {}, coverage.assumed)
    known: dict[tuple[int, int], str] = {}
    written: dict[int, tuple[str, RawRule]] = {}
    partly: dict[str, list[LeftOut]] = {}
    for path, text in sources:
        for found in read_rules(text):
            if isinstance(found, RuleError):
                coverage.broken.append(LeftOut(path, found.line, found.column, "", "", found.message))
                continue
            try:
                rule = understand(found, len(rules), reader)
                _once(rule, found, path, known)
            except RuleError as error:
                coverage.broken.append(_left_out(path, found, error.line, error.column, "", error.message))
            except Unsupported as why:
                coverage.unsupported.append(_left_out(path, found, found.line, 1, why.keyword, why.detail))
            else:
                written[rule.number] = path, found
                undone = left_undone(rule, found).items()
                partly[rule.check] = [_left_out(path, found, found.line, 1, *one) for one in undone]
                rules.append(rule)
    rules = _with_bits(rules, written, coverage)
    coverage.loaded = len(rules)
    coverage.in_part = [one for rule in rules for one in partly[rule.check]]
    return RuleSet(rules), coverage


def _with_bits(rules: list[Rule], written: dict[int, tuple[str, RawRule]], coverage: Coverage) -> list[Rule]:
    """Leave out the rules that need a bit which no rule in force sets, and then those that need theirs."""
    while True:
        known = frozenset(bit for one in rules for bit in one.sets)
        lacking = [one for one in rules if not all(bits & known for bits in one.needs)]
        if not lacking:
            return [replace(one, number=number) for number, one in enumerate(rules)]
        for one in lacking:
            path, raw = written[one.number]
            detail = f"no rule in force sets {min(min(bits) for bits in one.needs if not bits & known)}"
            coverage.unsupported.append(_left_out(path, raw, raw.line, 1, "flowbits", detail))
        gone = {one.number for one in lacking}
        rules = [one for one in rules if one.number not in gone]


def _once(rule: Rule, raw: RawRule, path: str, known: dict[tuple[int, int], str]) -> None:
    here = f"{path}:{raw.line}"
    first = known.setdefault((rule.gid, rule.sid), here)
    if first != here:
        raise RuleError(raw.line, 1, f"sid {rule.sid} stands twice; also at {first}")


def _left_out(path: str, raw: RawRule, line: int, column: int, keyword: str, detail: str) -> LeftOut:
    return LeftOut(path, line, column, raw.value("sid") or "", keyword, detail)
