"""YARA rules (the only user of yara-x): the starter set and the operator's, replaced as a whole or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import yara_x

from filters.inspection.finding import Finding
from filters.reason import DropReason


@dataclass(frozen=True, slots=True)
class BadRules:
    """A file of rules that can't be used: the others still are."""

    path: str
    problem: str


class Rulebook:
    """Compiled rules. `bad` lists the files that were left out and why."""

    def __init__(self, sources: Sequence[tuple[str, str]]) -> None:
        """Compile (name, text) pairs, each in a namespace of its own."""
        compiler = yara_x.Compiler()
        bad = []
        for name, text in sources:
            try:
                yara_x.compile(text)  # alone first: a broken file leaves the compiler unusable
            except yara_x.CompileError as error:
                bad.append(BadRules(name, str(error)))
                continue
            compiler.new_namespace(name)
            compiler.add_source(text, origin=name)
        self.bad = tuple(bad)
        self._rules = compiler.build()

    @classmethod
    def load(cls, own: Sequence[tuple[str, str]] = ()) -> "Rulebook":
        """Read the starter set; compile it with the operator's own (name, text) pairs."""
        starter = files(__package__).joinpath("rules")
        sources = [(one.name, one.read_text()) for one in sorted(starter.iterdir(), key=lambda one: one.name)]
        return cls([*sources, *own])

    def scan(self, data: bytes, timeout_s: float) -> list[Finding]:
        """Return a finding for each rule that fires; an `inspector-timeout` one when it took too long."""
        scanner = yara_x.Scanner(self._rules)
        scanner.set_timeout(max(1, round(timeout_s)))
        try:
            result = scanner.scan(data)
        except yara_x.TimeoutError:
            return [Finding(DropReason.INSPECTOR_TIMEOUT, "scan_s", f"YARA took longer than {timeout_s:g} s")]
        return [
            Finding(
                DropReason.MALWARE,
                f"yara.{rule.identifier}",
                dict(rule.metadata).get("description", rule.namespace),
            )
            for rule in result.matching_rules
        ]
