"""Parse a rule's `inspect`: what the content of its flows must be."""

from filters.inspection.spec import DETECTORS, PROTOCOLS, Hold, InspectionSpec, OnError
from filters.policy.table import Table

DEFAULT = InspectionSpec()


def parse_inspection(rule: Table) -> InspectionSpec:
    """Read `inspect = { … }` of a rule; raises PolicyError."""
    table = rule.table("inspect")
    table.choice("engine", ("stream",), "stream")
    table.choice("offload_after", ("never",), "never")
    spec = InspectionSpec(
        _words(table, "detectors", DETECTORS) if table.has("detectors") else DEFAULT.detectors,
        table.choice("protocol", PROTOCOLS) if table.has("protocol") else None,
        Hold(table.choice("hold", tuple(Hold), DEFAULT.hold)),
        OnError(table.choice("on_error", tuple(OnError), DEFAULT.on_error)),
        _types(table, "allow_types"),
        _types(table, "deny_types"),
        table.choice("partial_objects", ("refuse", "pass"), "refuse") == "pass",
    )
    table.finish()
    return spec


def _words(table: Table, key: str, known: tuple[str, ...]) -> frozenset[str]:
    return frozenset(table.parse_all(key, lambda word: _known(word, known)))


def _known(word: str, known: tuple[str, ...]) -> str:
    if word not in known:
        raise ValueError(f"expected some of {', '.join(known)}; got {word!r}")
    return word


def _types(table: Table, key: str) -> frozenset[str]:
    return frozenset(table.texts(key)) if table.has(key) else frozenset()
