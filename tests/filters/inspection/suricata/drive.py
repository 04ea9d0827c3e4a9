"""Drive rules over conversations."""

from collections.abc import Iterable

from filters.inspection.finding import Direction
from filters.inspection.limits import DEFAULT_LIMITS
from filters.inspection.matching.database import Database
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import StreamInspector
from filters.inspection.suricata.ruleset import Coverage, RuleSet, load_rules
from filters.inspection.suricata.tracker import RuleTracker
from tests.filters.inspection.drive import Driven

CLIENT, SERVER = ("10.0.0.2", 40000), ("10.0.0.3", 80)
SPEC = InspectionSpec(frozenset({"rules"}))
NOTHING = Database(())
Said = tuple[Direction, bytes]


def ruleset(*rules: str, **variables: str) -> RuleSet:
    """Load rules that all have to be in force."""
    found, coverage = load_rules([("t.rules", "\n".join(rules))], variables)
    assert coverage.is_complete, (coverage.broken, coverage.unsupported)
    return found


def rule(options: str, header: str = "drop tcp any any -> any any", sid: int = 1) -> str:
    return f'{header} (msg:"m{sid}"; {options} sid:{sid};)'


def coverage(*rules: str, **variables: str) -> Coverage:
    return load_rules([("t.rules", "\n".join(rules))], variables)[1]


def stopped_by(options: str, header: str = "alert tcp any any -> any any") -> str:
    """Return what stops a rule that is otherwise fine."""
    found = coverage(rule(options, header))
    assert not found.broken, found.broken
    return found.unsupported[0].keyword if found.unsupported else ""


def follow(
    rules: RuleSet, pieces: Iterable[Said], *, ends: bool = True, spec: InspectionSpec = SPEC
) -> Driven:
    """Drive pieces through rules alone; what was said after a cut is not fed."""
    driven = Driven(spec)
    driven.inspector = StreamInspector(
        spec, NOTHING, DEFAULT_LIMITS, rules=RuleTracker(rules, CLIENT, SERVER)
    )
    for way, data in pieces:
        driven.feed(way, data)
    for way in Direction:
        if ends:
            driven.end(way)
    return driven


def checks(rules: RuleSet, pieces: Iterable[Said]) -> list[str]:
    return follow(rules, pieces).checks


def cut_up(said: Iterable[Said], places: Iterable[int]) -> list[Said]:
    """Cut each side's bytes at these places, counted over the whole conversation."""
    wanted, at, found = set(places), 0, list[Said]()
    for way, data in said:
        start = 0
        for end in range(1, len(data) + 1):
            if at + end in wanted or end == len(data):
                found.append((way, data[start:end]))
                start = end
        at += len(data)
    return found
