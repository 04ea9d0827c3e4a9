"""Put the engines for a rule together, each compiled once."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from filters.inspection.limits import DEFAULT_LIMITS, Limits
from filters.inspection.matching.database import Database
from filters.inspection.material import Kind, Material, own_fingerprints, own_patterns, own_rules
from filters.inspection.objects.clamd import Clamd
from filters.inspection.objects.judge import Judge
from filters.inspection.patterns.load import secrets
from filters.inspection.patterns.malware import MALWARE
from filters.inspection.patterns.pattern import Pattern
from filters.inspection.patterns.personal import PERSONAL
from filters.inspection.spec import InspectionSpec
from filters.inspection.suricata.ruleset import Coverage, RuleSet, load_rules


@lru_cache(maxsize=64)
def compiled(patterns: tuple[Pattern, ...]) -> Database:
    """Compile patterns, once for each combination; raises PatternError."""
    return Database(patterns)


NOTHING = Material()


class Toolbox:
    """What a gateway (or the offline twin) inspects with. Immutable: new material means a new toolbox."""

    def __init__(
        self,
        material: Material = NOTHING,
        limits: Limits = DEFAULT_LIMITS,
        clamd: Path | None = None,
        rules: Sequence[tuple[str, str]] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Take the operator's files, sifted, and clamd's socket; raises PatternError, PolicyError, FingerprintError.

        rules: files of Suricata rules as (path, text), with the values of their variables. What of them is not in
        force stands in `coverage`.
        """
        self.material, self.limits = material, limits
        self.coverage = Coverage()
        self._flow_rules: RuleSet | None = None
        if rules := [*rules, *((one.name, one.text) for one in material.of(Kind.SURICATA))]:
            self._flow_rules, self.coverage = load_rules(rules, variables)
        self._clamd = Clamd(clamd) if clamd else None
        self._rulebook = own_rules(material)
        self._fingerprints = own_fingerprints(material)
        own = own_patterns(material)
        self._by_detector = {
            "secrets": secrets(),
            "personal": PERSONAL,
            "malware": MALWARE,
            "patterns": tuple(one for one in own if one.detector == "patterns"),
            "marks": tuple(one for one in own if one.detector == "marks"),
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is not in force although its file is."""
        if self.coverage.is_complete:
            return ()
        left_out = len(self.coverage.unsupported) + len(self.coverage.broken)
        stopped = ", ".join(f"{name} {count}" for name, count in self.coverage.keywords.most_common(5))
        return (
            f"{left_out} of {left_out + self.coverage.loaded} Suricata rules are not in force "
            f"({len(self.coverage.broken)} broken; {stopped}); `quotegate rules check` lists them",
        )

    def lacking(self, spec: InspectionSpec) -> frozenset[str]:
        """Return the detectors of a rule that could find nothing, for want of the operator's files."""
        found = {name for name, patterns in self._by_detector.items() if patterns}
        if "clamd" in spec.detectors and self._clamd and self._clamd.path.is_socket():
            found.add("clamd")
        if self._fingerprints and self._fingerprints.recognises:
            found.add("fingerprints")
        if self._flow_rules and self._flow_rules.rules:
            found.add("rules")
        return spec.detectors - found

    def judge(self, spec: InspectionSpec) -> Judge:
        """Return the engines for one rule; raises PatternError."""
        patterns = tuple(one for name in sorted(spec.detectors) for one in self._by_detector.get(name, ()))
        rulebook = self._rulebook if "malware" in spec.detectors else None
        engines = (self._clamd,) if self._clamd and "clamd" in spec.detectors else ()
        fingerprints = self._fingerprints if "fingerprints" in spec.detectors else None
        rules = self._flow_rules if "rules" in spec.detectors else None
        return Judge(spec, self.limits, compiled(patterns), rulebook, engines, fingerprints, rules)
