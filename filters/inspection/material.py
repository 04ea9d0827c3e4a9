"""What operators give to inspectors, as files, and which of them can be used. Pure; others read the files."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from filters.errors import FiltersError
from filters.inspection.matching.database import Database, PatternError
from filters.inspection.objects.rulebook import Rulebook
from filters.inspection.patterns.load import parse_patterns
from filters.inspection.patterns.pattern import Pattern
from filters.inspection.suricata.ruleset import load_rules

if TYPE_CHECKING:  # numpy is loaded only where there are fingerprints
    from filters.inspection.fingerprints.engine import Engine


LARGEST: Final = 64 << 20  # bytes of one file


class Kind(StrEnum):
    """What a file is, shown by its suffix."""

    PATTERNS = ".toml"
    YARA = ".yar"
    FINGERPRINTS = ".qgp"
    SURICATA = ".rules"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the operator's."""

    name: str
    data: bytes

    @property
    def kind(self) -> Kind | None:
        """Return what it is, or None: then it is none of ours."""
        return next((kind for kind in Kind if self.name.endswith(kind)), None)

    @property
    def text(self) -> str:
        """Return its text; what is no UTF-8 shows as such."""
        return self.data.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that can't be used, and why; `kept`: its former content is used still."""

    name: str
    problem: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Material:
    """Files that can be used, and those that can't."""

    files: tuple[SourceFile, ...] = ()
    bad: tuple[BadFile, ...] = ()

    def of(self, kind: Kind) -> tuple[SourceFile, ...]:
        """Return the files of a kind, by name."""
        return tuple(sorted((one for one in self.files if one.kind is kind), key=lambda one: one.name))


def sift(found: Iterable[SourceFile], before: Material) -> Material:
    """Try each new file. One that can't be used never takes down the others, and its former content stays in use.

    Nor does one that does not go with what is in use, as with an id that another file has.
    """
    files = tuple(found)
    former = {one.name: one for one in before.files}
    used = {one.name: former[one.name] for one in files if one.name in former}
    problems = {one.name: f"expected a name ending in {', '.join(Kind)}" for one in files if one.kind is None}
    new = [one for one in files if one.kind and used.get(one.name) != one]
    problems |= _problems(new, {})
    new = [one for one in new if one.name not in problems]
    together = used | {one.name: one for one in new}
    one_of_each = {one.kind: one for one in new if one.kind in _MEET}
    if not _problems(one_of_each.values(), together):
        used = together
    else:  # one after the other: whichever is refused, what is used then goes together
        for one in new:
            problem = _problems([one], used) if one.kind in _MEET else {}
            problems |= problem
            used |= {} if problem else {one.name: one}
    bad = (
        BadFile(one.name, problems[one.name], kept=one.name in used) for one in files if one.name in problems
    )
    return Material(tuple(used[one.name] for one in files if one.name in used), tuple(bad))


def _problems(files: Iterable[SourceFile], among: Mapping[str, SourceFile]) -> dict[str, str]:
    """Return what is wrong with files, by name, when each is used among those others."""
    found = {}
    for one in files:
        try:
            if len(one.data) > LARGEST:
                raise ValueError(f"expected at most {LARGEST} bytes")
            if one.kind:
                _TRY[one.kind](
                    one, Material(tuple(other for name, other in among.items() if name != one.name))
                )
        except (FiltersError, PatternError, ValueError) as error:
            found[one.name] = str(error)
    return found


def own_patterns(material: Material) -> tuple[Pattern, ...]:
    """Return the patterns and marks of all files; raises PolicyError."""
    files = material.of(Kind.PATTERNS)
    return tuple(pattern for one in files for pattern in parse_patterns(one.text, "patterns", one.name))


def own_rules(material: Material) -> Rulebook:
    """Compile the shipped YARA rules and those of all files."""
    return Rulebook.load([(one.name, one.text) for one in material.of(Kind.YARA)])


def own_fingerprints(material: Material) -> "Engine | None":
    """Return what recognises the documents of the one set there may be; raises FingerprintError."""
    for one in material.of(Kind.FINGERPRINTS):
        from filters.inspection.fingerprints.engine import Engine
        from filters.inspection.fingerprints.set_file import parse

        return Engine(parse(one.data))
    return None


def _try_patterns(one: SourceFile, others: Material) -> None:
    Database(own_patterns(Material((*others.of(Kind.PATTERNS), one))))


def _try_yara(one: SourceFile, _others: Material) -> None:
    for bad in Rulebook([(one.name, one.text)]).bad:
        raise PatternError(bad.problem)


def _try_fingerprints(one: SourceFile, others: Material) -> None:
    if known := others.of(Kind.FINGERPRINTS):
        # each set has a secret of its own, and everything would be read once for each
        raise ValueError(
            f"expected one set of fingerprints; {known[0].name} is in use: add the documents to that"
        )
    own_fingerprints(Material((one,)))


def _try_suricata(one: SourceFile, _others: Material) -> None:
    rules, coverage = load_rules([(one.name, one.text)], None)
    if not rules.rules:
        first = [*coverage.broken, *coverage.unsupported]
        raise ValueError(f"none of its rules can be used{f': {first[0]}' if first else ''}")


_MEET: Final = (Kind.PATTERNS, Kind.FINGERPRINTS)  # files of these kinds are used as one
_TRY: Final[Mapping[Kind, Callable[[SourceFile, Material], None]]] = {
    Kind.PATTERNS: _try_patterns,
    Kind.YARA: _try_yara,
    Kind.FINGERPRINTS: _try_fingerprints,
    Kind.SURICATA: _try_suricata,
}
