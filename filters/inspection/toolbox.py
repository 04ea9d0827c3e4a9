"""Put the engines for a rule together, each compiled once."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from filters.inspection.limits import DEFAULT_LIMITS, Limits
from filters.inspection.matching.database import Database
from filters.inspection.objects.judge import Judge
from filters.inspection.objects.rulebook import Rulebook
from filters.inspection.patterns.load import parse_patterns, secrets
from filters.inspection.patterns.malware import MALWARE
from filters.inspection.patterns.pattern import Pattern
from filters.inspection.patterns.personal import PERSONAL
from filters.inspection.spec import InspectionSpec


@lru_cache(maxsize=64)
def compiled(patterns: tuple[Pattern, ...]) -> Database:
    """Compile patterns, once for each combination; raises PatternError."""
    return Database(patterns)


class Toolbox:
    """What a gateway (or the offline twin) inspects with. Immutable: new rules mean a new toolbox."""

    def __init__(
        self, own: Sequence[Pattern] = (), rules: Path | None = None, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """Take the operator's patterns and directory of YARA rules."""
        self.limits = limits
        self.rulebook = Rulebook.load(rules)
        self._by_detector = {
            "secrets": secrets(),
            "personal": PERSONAL,
            "malware": MALWARE,
            "patterns": tuple(one for one in own if one.detector == "patterns"),
            "marks": tuple(one for one in own if one.detector == "marks"),
        }

    @classmethod
    def read(cls, patterns: Path | None, rules: Path | None, limits: Limits = DEFAULT_LIMITS) -> "Toolbox":
        """Read a file of patterns and a directory of rules; raises PolicyError."""
        own = parse_patterns(patterns.read_text(), "patterns", str(patterns)) if patterns else ()
        return cls(own, rules, limits)

    def judge(self, spec: InspectionSpec) -> Judge:
        """Return the engines for one rule; raises PatternError."""
        patterns = tuple(one for name in sorted(spec.detectors) for one in self._by_detector.get(name, ()))
        return Judge(
            spec, self.limits, compiled(patterns), self.rulebook if "malware" in spec.detectors else None
        )
