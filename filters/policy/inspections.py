"""Parse a rule's `inspect`: what the content of its flows must be."""

import re

from filters.flow import Protocol
from filters.inspection.spec import DETECTORS, OBJECT_FAMILIES, PROTOCOLS, Hold, InspectionSpec, OnError
from filters.policy.model import ServiceRange
from filters.policy.table import Table
from filters.suggestion import suggestion

DEFAULT = InspectionSpec()
_MEDIA_TYPE = re.compile(r"[a-z][a-z0-9-]*/[A-Za-z0-9][A-Za-z0-9.+_-]*")
# what is told from content is written in small letters (libmagic), but for these
_WITH_CAPITALS = {
    word.lower(): word
    for word in (
        "application/CDFV2",
        "application/vnd.hp-HPGL",
        "application/x-acorn-68E",
        "text/PGP",
        "text/x-Algol68",
        "video/MP2T",
    )
}
_SIZE = re.compile(r"([1-9][0-9]{0,8})(KiB|MiB|GiB)")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
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
    spec = InspectionSpec(
        _words(table, "detectors", DETECTORS) if table.has("detectors") else DEFAULT.detectors,
        table.choice("protocol", PROTOCOLS) if table.has("protocol") else None,
        Hold(table.choice("hold", tuple(Hold), DEFAULT.hold)),
        OnError(table.choice("on_error", tuple(OnError), DEFAULT.on_error)),
        _types(table, "allow_types"),
        _types(table, "deny_types"),
        table.choice("partial_objects", ("refuse", "pass"), "refuse") == "pass",
        table.parse("offload_after", _depth, "never"),
    )
    if spec.offload_after and (spec.hold is Hold.OBJECT or engines == {"packet"}):
        why = (
            "an object can't be held as a whole and let go on its way"
            if spec.hold is Hold.OBJECT
            else "datagrams are all inspected"
        )
        raise table.error(
            "bad-value", "offload_after", f"{table.name}: `offload_after`: {why}; expected never"
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
        raise ValueError(f"expected some of {', '.join(known)}; got {word!r}{suggestion(word, known)}")
    return word


def _depth(text: str) -> int:
    """Read a number of bytes; `never` is 0."""
    if text == "never":
        return 0
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f'expected "never" or a size such as "1MiB"; got {text!r}')
    return int(found[1]) * _UNITS[found[2]]


def _types(table: Table, key: str) -> frozenset[str]:
    if not table.has(key):
        return frozenset()
    found = frozenset(table.parse_all(key, _type))
    if not found and key == "allow_types":
        message = f"{table.name}: `{key}` names no type; leave it out where every type may pass"
        raise table.error("bad-value", key, message)
    return found


def _type(word: str) -> str:
    if word not in OBJECT_FAMILIES and not _MEDIA_TYPE.fullmatch(word):
        raise ValueError(
            f"expected a media type such as application/pdf, or one of {', '.join(OBJECT_FAMILIES)}; "
            f"got {word!r}{suggestion(word, OBJECT_FAMILIES)}"
        )
    written = _WITH_CAPITALS.get(word.lower(), word.lower())
    if word != written:
        raise ValueError(f"expected {written}, as it is told from the content; got {word!r}")
    return word
