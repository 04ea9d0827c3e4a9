"""Understand one rule: every option, or the keyword that stops it."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from filters.inspection.matching.database import LONGEST_WORD
from filters.inspection.suricata import keywords
from filters.inspection.suricata.addresses import Reader
from filters.inspection.suricata.draft import Draft, check_sizes, common_directions, common_protocols, grouped
from filters.inspection.suricata.model import (
    BODIES,
    DOTTED,
    RAW,
    Action,
    Content,
    Rule,
    Unsupported,
)
from filters.inspection.suricata.numbers import read_byte_test, read_data_at, read_number, read_size
from filters.inspection.suricata.parser import Option, RawRule, RuleError, content_bytes, plain, quoted
from filters.inspection.suricata.regex import read_pcre
from filters.inspection.suricata.segments import plan
from filters.reason import DropReason

T = TypeVar("T")
_FURTHEST: Final = 1 << 20  # Suricata's bound on distance, within, offset and depth
_FLOW: Final = {
    "established": keywords.BOTH, "stateless": keywords.BOTH, "only_stream": keywords.BOTH, "to_server": keywords.UP, "from_client": keywords.UP,
    "to_client": keywords.DOWN, "from_server": keywords.DOWN,
}  # fmt: skip


def understand(raw: RawRule, number: int, reader: Reader) -> Rule:
    """Return the rule; raises RuleError where it is wrong, Unsupported where it asks for what is not done here."""
    sid, gid = _identity(raw, "sid"), _identity(raw, "gid", "1")
    draft = Draft()
    _header(raw, draft)
    for option in raw.options:
        if option.keyword not in keywords.DESCRIBING:
            _read(option, draft)
    groups = grouped(draft)
    directions = common_directions(draft, groups)
    protocols = common_protocols(draft, groups)
    for group in groups:
        if group.buffer == RAW:
            plan(group)
        check_sizes(group, raw.line)
    if draft.silent and (raw.action != "alert" or not draft.sets):
        raise Unsupported("noalert", "of a rule that cuts, or sets no bit")
    preferred = draft.items[draft.preferred][1] if draft.preferred is not None else None
    return Rule(
        number,
        gid,
        sid,
        _message(raw),
        Action.ALERT if raw.action == "alert" else Action.DROP,
        DropReason.DATA_LEAK if raw.value("classtype") in keywords.LEAKING else DropReason.MALWARE,
        _end(raw, reader.addresses, raw.source),
        _end(raw, reader.ports, raw.source_port),
        _end(raw, reader.addresses, raw.destination),
        _end(raw, reader.ports, raw.destination_port),
        raw.arrow == "<>",
        raw.protocol.startswith("tcp"),
        protocols,
        frozenset(draft.not_protocols),
        directions,
        groups,
        preferred if isinstance(preferred, Content) else None,
        frozenset(draft.sets),
        tuple(draft.needs),
        draft.silent,
    )


def _header(raw: RawRule, draft: Draft) -> None:
    if raw.action == "pass":
        raise Unsupported("pass", "it would let through what other rules forbid")
    if raw.arrow == "=>":
        raise Unsupported("=>", "a request and its answer in one rule")
    if raw.protocol not in keywords.PROTOCOLS:
        raise Unsupported(f"protocol {raw.protocol}", f"expected one of {', '.join(keywords.PROTOCOLS)}")
    if named := keywords.PROTOCOLS[raw.protocol]:
        draft.protocols.add(named)


def _end(raw: RawRule, read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise RuleError(raw.line, 1, f"addresses and ports: {error}") from error


def _identity(raw: RawRule, keyword: str, default: str | None = None) -> int:
    text = raw.value(keyword) or default
    if text is None:
        raise RuleError(raw.line, 1, "expected a sid: its number names a rule")
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise RuleError(raw.line, 1, f"{keyword}: expected a number; got {text[:20]!r}")
    return int(text)


def _message(raw: RawRule) -> str:
    for option in raw.options:
        if option.keyword == "msg":
            return plain(quoted(option)[1])
    return ""


def _read(option: Option, draft: Draft) -> None:
    keyword = option.keyword
    if keyword in keywords.STICKY:
        if option.value:
            raise Unsupported(keyword, f"with {option.value[:20]}")
        draft.buffer, draft.namings = keywords.STICKY[keyword], draft.namings + 1
    elif keyword in keywords.MODIFIERS:
        draft.change(option, draft.content(option), keywords.MODIFIERS[keyword])
    elif keyword in _WITHOUT_VALUE or keyword in _WITH_VALUE:
        needs = keyword in _WITH_VALUE
        if needs != bool(option.value) and keyword not in {"fast_pattern", "absent"}:
            raise option.error("expected a value" if needs else f"expected no value; got {option.value!r}")
        (_WITH_VALUE if needs else _WITHOUT_VALUE)[keyword](option, draft)
    else:
        raise Unsupported(keyword, "not known here")


def _add_content(option: Option, draft: Draft, buffer: str | None = None) -> None:
    negated, text = quoted(option)
    data = content_bytes(option, text)
    if len(data) > LONGEST_WORD:
        raise Unsupported("content", f"longer than {LONGEST_WORD} bytes")
    draft.items.append((draft.named(buffer or draft.buffer), Content(data, negated=negated)))


def _nocase(option: Option, draft: Draft) -> None:
    one = draft.content(option)
    draft.change(option, replace(one, caseless=True, data=one.data.lower()))


def _place(option: Option, draft: Draft) -> None:
    one = draft.content(option)
    relative = option.keyword in {"distance", "within"}
    if not re.fullmatch(r"[+-]?[0-9]{1,8}", option.value or ""):
        raise Unsupported(option.keyword, f"a variable: {(option.value or '')[:20]}")
    number = read_number(option, option.value or "", _FURTHEST)
    placed = one.low or one.span is not None or one.relative
    if placed and one.relative != relative:
        raise Unsupported(option.keyword, "offset or depth together with distance or within")
    if option.keyword in {"depth", "within"}:
        if number < len(one.data):
            raise option.error(f"expected at least the content's {len(one.data)} bytes; got {number}")
        draft.change(option, replace(one, relative=relative, span=number))
    else:
        if number < 0 and not relative:
            raise option.error(f"expected no negative number; got {number}")
        draft.change(option, replace(one, relative=relative, low=number))


def _starts(option: Option, draft: Draft) -> None:
    one = draft.content(option)
    if one.relative or one.low or one.span is not None:
        raise option.error("not together with offset, depth, distance or within")
    draft.change(option, replace(one, span=len(one.data)))


def _ends_with(option: Option, draft: Draft) -> None:
    draft.change(option, replace(draft.content(option), at_end=True))


def _fast(option: Option, draft: Draft) -> None:
    if not draft.content(option).negated:
        draft.preferred = draft.latest(option)


def _pcre(option: Option, draft: Draft) -> None:
    found = read_pcre(option)
    draft.items.append((draft.named(found.buffer or draft.buffer), found.regex))


def _bsize(option: Option, draft: Draft) -> None:
    if draft.buffer == RAW:
        raise Unsupported("bsize", "a stream has no size")
    draft.items.append((draft.named(draft.buffer), read_size(option, option.value or "")))


def _urilen(option: Option, draft: Draft) -> None:
    number, _, kind = (option.value or "").partition(",")
    if kind.strip() not in {"", "raw", "norm"}:
        raise option.error(f"expected raw or norm; got {kind[:20]!r}")
    buffer = "http.uri.raw" if kind.strip() == "raw" else "http.uri"
    draft.items.append((draft.named(buffer), read_size(option, number)))


def _dotprefix(option: Option, draft: Draft) -> None:
    dotted = draft.buffer + DOTTED
    if dotted not in keywords.BUFFERS:
        raise Unsupported("dotprefix", f"of {draft.buffer}")
    draft.buffer = dotted


def _absent(option: Option, draft: Draft) -> None:
    if option.value:
        raise Unsupported("absent", option.value[:20])
    if draft.buffer == RAW or draft.buffer in BODIES:
        raise Unsupported("absent", f"of {draft.buffer}")
    draft.absent.add(draft.buffer)


def _flow(option: Option, draft: Draft) -> None:
    for word in re.split(r"\s*,\s*", option.value or ""):
        if not word:
            raise option.error("expected a word on each side of a comma")
        if word not in _FLOW:
            raise Unsupported("flow", word[:20])
        draft.directions &= _FLOW[word]


def _app_layer_protocol(option: Option, draft: Draft) -> None:
    name = option.value or ""
    negated, name = name.startswith("!"), name.lstrip("!")
    found = keywords.PROTOCOLS.get(name)
    if not found:
        raise Unsupported("app-layer-protocol", name[:20] or "nothing named")
    (draft.not_protocols if negated else draft.protocols).add(found)


def _bits(option: Option, draft: Draft) -> None:
    verb, *names = re.split(r"\s*,\s*", option.value or "")
    bits = frozenset(one.strip() for one in re.split(r"[|]" if verb == "isset" else r"[&|]", ",".join(names)))
    if verb == "noalert":
        draft.silent = True
    elif verb not in {"set", "isset"} or not all(re.fullmatch(r"[\w.\-/ ]+", one) for one in bits):
        raise Unsupported("flowbits", verb[:20] or "without a verb")
    elif verb == "set":
        draft.sets |= bits
    else:
        draft.needs.append(bits)


def _silent(_option: Option, draft: Draft) -> None:
    draft.silent = True


def _threshold(option: Option, draft: Draft) -> None:
    """A limit only tells less often; all others decide whether a rule matches at all."""
    kind = re.search(r"\btype\s+(\w+)", option.value or "")
    if not kind or kind[1] != "limit":
        raise Unsupported("threshold", f"type {kind[1] if kind else '?'}")


_WITHOUT_VALUE: Final[dict[str, Callable[[Option, Draft], None]]] = {
    "dotprefix": _dotprefix, "noalert": _silent, "nocase": _nocase, "startswith": _starts, "endswith": _ends_with, "fast_pattern": _fast, "absent": _absent,
}  # fmt: skip
_WITH_VALUE: Final[dict[str, Callable[[Option, Draft], None]]] = {
    "content": _add_content, "uricontent": lambda option, draft: _add_content(option, draft, "http.uri"),
    "offset": _place, "depth": _place, "distance": _place, "within": _place, "pcre": _pcre, "bsize": _bsize, "urilen": _urilen,
    "isdataat": lambda option, draft: draft.add_test(read_data_at(option)),
    "byte_test": lambda option, draft: draft.add_test(read_byte_test(option)),
    "flow": _flow, "app-layer-protocol": _app_layer_protocol, "flowbits": _bits, "threshold": _threshold,
}  # fmt: skip
