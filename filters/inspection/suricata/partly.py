"""Say of which rules only a part is done: what they find is right, but they would look further in Suricata."""

from typing import Final

from filters.inspection.suricata.model import Content, Rule
from filters.inspection.suricata.parser import RawRule

_ANY_PACKET: Final = frozenset({"ip", "ipv4", "ip4"})
_HTTP: Final = frozenset({"http", "http1"})


def left_undone(rule: Rule, raw: RawRule) -> dict[str, str]:
    """Return what of a rule in force is not looked at, each with the keyword that asks for it."""
    found = {}
    if raw.protocol in _ANY_PACKET and rule.raw and not rule.protocols:
        found[raw.protocol] = "looked for in TCP and in DNS over UDP only"
    if _file_of_any(rule, raw):
        found["file.data"] = "looked for in HTTP only"
    if placed := _placed(rule, raw):
        found[placed] = "counted from the stream's beginning, not in each packet"
    return found


def _file_of_any(rule: Rule, raw: RawRule) -> bool:
    """Tell whether a rule is about files, and nothing but that makes it one about HTTP."""
    names = {one.buffer for one in rule.groups}
    said = {one.value for one in raw.options if one.keyword == "app-layer-protocol"}
    about_http = raw.protocol in _HTTP or said & _HTTP or any(one.startswith("http.") for one in names)
    return "file.data" in names and not about_http


def _placed(rule: Rule, raw: RawRule) -> str:
    """Return what in a rule about packets says where in one a content stands."""
    if raw.protocol not in {"tcp", *_ANY_PACKET} or rule.raw is None:
        return ""
    flow = raw.value("flow") or ""
    if "only_stream" in flow:
        return ""
    items = [one for one in rule.raw.items if isinstance(one, Content) and not one.relative]
    if any(one.span is not None for one in items):
        return "depth"
    return "offset" if any(one.low for one in items) else ""
