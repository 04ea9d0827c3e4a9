"""Parse a rule's `inspect`: what the content of its flows must be."""

from filters.flow import Protocol
from filters.inspection.spec import DETECTORS, PROTOCOLS, Hold, InspectionSpec, OnError
from filters.policy.model import ServiceRange
from filters.policy.table import Table

DEFAULT = InspectionSpec()


STREAMS_ONLY = ("hold", "allow_types", "deny_types", "partial_objects")


def parse_inspection(rule: Table, services: tuple[ServiceRange, ...]) -> InspectionSpec:
    """Read `inspect = { … }` of a rule for these services; raises PolicyError."""
    table = rule.table("inspect")
    engines = {"stream" if one.protocol is Protocol.TCP else "packet" for one in services}
    if table.has("engine") and {table.choice("engine", ("stream", "packet"))} != engines:
        message = f"{table.name}: expected the engine of its services, {' and '.join(sorted(engines))}; leave `engine` out"
        raise table.error("bad-value", "engine", message)
    if engines == {"packet"}:
        _check_datagrams(table)
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


def _check_datagrams(table: Table) -> None:
    for key in STREAMS_ONLY:
        if table.has(key):
            message = f"{table.name}: `{key}` is about objects, which TCP alone carries; leave it out"
            raise table.error("bad-value", key, message)
    if table.has("protocol") and (wanted := table.choice("protocol", PROTOCOLS)) != "dns":
        message = f"{table.name}: {wanted} is spoken over TCP; of datagrams only dns can be demanded"
        raise table.error("bad-value", "protocol", message)


def _words(table: Table, key: str, known: tuple[str, ...]) -> frozenset[str]:
    return frozenset(table.parse_all(key, lambda word: _known(word, known)))


def _known(word: str, known: tuple[str, ...]) -> str:
    if word not in known:
        raise ValueError(f"expected some of {', '.join(known)}; got {word!r}")
    return word


def _types(table: Table, key: str) -> frozenset[str]:
    return frozenset(table.texts(key)) if table.has(key) else frozenset()
