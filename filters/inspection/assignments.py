"""Which rule inspects a connection, as quotegated told."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from filters.inspection.spec import InspectionSpec


@dataclass(frozen=True, slots=True)
class Assignment:
    """A range of services from one address to another, the rule that allows it, and how it is inspected."""

    protocol: int
    source: str
    destination: str
    first: int
    last: int
    rule: str
    spec: InspectionSpec

    def to_json(self) -> list[object]:
        """Write what `from_json` reads."""
        return [
            self.protocol,
            self.source,
            self.destination,
            self.first,
            self.last,
            self.rule,
            self.spec.to_json(),
        ]

    @classmethod
    def from_json(cls, data: list[Any]) -> "Assignment":
        """Read an assignment; raises KeyError, TypeError, ValueError."""
        protocol, source, destination, first, last, rule, spec = data
        return cls(
            int(protocol),
            str(source),
            str(destination),
            int(first),
            int(last),
            str(rule),
            InspectionSpec.from_json(spec),
        )


class Assignments:
    """All of them; those of one pair never overlap."""

    def __init__(self, entries: tuple[Assignment, ...] = ()) -> None:
        pairs: dict[tuple[int, str, str], list[Assignment]] = {}
        for one in sorted(entries, key=lambda entry: entry.first):
            pairs.setdefault((one.protocol, one.source, one.destination), []).append(one)
        self._pairs: Mapping[tuple[int, str, str], list[Assignment]] = pairs

    @property
    def specs(self) -> frozenset[InspectionSpec]:
        """All ways in which anything is inspected."""
        return frozenset(one.spec for entries in self._pairs.values() for one in entries)

    def find(self, protocol: int, source: str, destination: str, port: int) -> Assignment | None:
        """Return who inspects this flow, or None: then it must not pass. ICMP echo has port 0."""
        ranges = self._pairs.get((protocol, source, destination), [])
        at = bisect_right(ranges, port, key=lambda one: one.first) - 1
        return ranges[at] if at >= 0 and port <= ranges[at].last else None
