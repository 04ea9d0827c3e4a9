"""Take MIME apart (RFC 2045, 2046, 5322), strictly: what mail programs read differently is refused.

Parts are yielded decoded. Source for what differs in the wild: RFC 2046 section 5.1, RFC 2231.
"""

import base64
import binascii
import heapq
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from filters.inspection.coding.charset import named
from filters.inspection.coding.line_ends import stray_line_end
from filters.inspection.finding import LimitHit, Refusal
from filters.inspection.objects.archive import Budget
from filters.inspection.objects.mail_text import spelled_fields, unflowed, unpacked, uuencoded

_FIELD = re.compile(rb"([\x21-\x39\x3b-\x7e]+):[ \t]*(.*)")
_TYPE = re.compile(rb"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*")
_PARAMETER = re.compile(  # ++ and *+: it remembers no way back, which would take a hundred times the value's size
    rb";[ \t]*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(?:\"((?:[^\"\\\r\n]++|\\[\x20-\x7e])*+)\"|([^\s;\"]+))[ \t]*)?"
)
_BARE_BOUNDARY = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z=/:?]+"
)  # a comma ends it for PHP, a parenthesis for others
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_LONGEST_BOUNDARY: Final = 1000  # bytes: a line of mail has 998
_QUOTED = re.compile(rb"=(?:([0-9A-Fa-f]{2})|[ \t]*\r\n)")
_BROKEN = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*\r\n)")
_PLAIN = (b"7bit", b"8bit", b"binary")
_BASE64: Final = (string.ascii_letters + string.digits + "+/").encode()


@dataclass(frozen=True, slots=True)
class Part:
    """One leaf: its name or media type, and its decoded content. What is no object (fields) has no media type."""

    name: str
    media_type: str
    content: bytes


def message_parts(
    data: bytes, budget: Budget, depth: int = 0, doubts: list[Refusal] | None = None
) -> Iterator[Part]:
    """Yield the leaves of a message; raises Refusal and LimitHit.

    doubts: given for what may be no mail. As much as can be read is yielded then, and where mail programs may find other
    parts than these is noted in it.
    """
    if depth > budget.limits.depth:
        raise LimitHit("depth", budget.limits.depth, " parts inside one another")
    if doubts is None:
        _check_line_ends(data)
    fields, body = _head(data)
    if spelled := spelled_fields(fields):
        yield Part("fields", "", spelled)
    media_type, parameters = _content_type(fields, doubts)
    coding = (_single(fields, b"content-transfer-encoding") or b"7bit").strip().lower()
    if media_type == "message/partial":
        raise Refusal("mime-partial", "a part of a message that only its receiver puts together")
    if media_type.startswith("multipart/"):
        if coding not in _PLAIN and doubts is None:
            raise Refusal("mime-coding", f"a multipart that is itself {coding[:40]!r}")
        yield from _multipart(body, parameters.get(b"boundary", b""), budget, depth, doubts)
        return
    budget.member()
    content = _decode(body, coding) if doubts is None else _decode_loosely(body, coding)
    budget.bytes(len(content))
    if media_type == "message/rfc822":
        yield from message_parts(content, budget, depth + 1, doubts)
        return
    name = parameters.get(b"name") or _disposition_name(fields, doubts) or media_type.encode()
    yield from _texts(Part(name.decode("utf-8", "replace"), media_type, content), parameters, budget)


def form_parts(data: bytes, content_type: str, budget: Budget) -> Iterator[Part]:
    """Yield the parts of a body whose Content-Type is multipart/…; raises Refusal and LimitHit."""
    _, parameters = _content_type([(b"content-type", content_type.encode("latin-1"))], served=True)
    for piece in _split(data, parameters.get(b"boundary", b""), budget, served=True):
        budget.member()
        _check_line_ends(b"" if piece.startswith(b"\r\n") else piece.partition(b"\r\n\r\n")[0])
        fields, body = _head(piece)
        media_type, inner = _content_type(fields)
        coding = (_single(fields, b"content-transfer-encoding") or b"binary").strip().lower()
        name = (_disposition_name(fields) or b"part").decode("utf-8", "replace")
        nested = media_type.startswith(("multipart/", "message/rfc822"))
        if nested or coding not in _PLAIN:  # most servers keep the part as it came
            budget.bytes(len(body))
            yield Part(name, "application/octet-stream", body)
        if media_type.startswith("multipart/"):
            yield from _multipart(body, inner.get(b"boundary", b""), budget, 1)
            continue
        content = _decode(body, coding)
        budget.bytes(len(content))
        if media_type == "message/rfc822":
            yield from message_parts(content, budget, 1)
            continue
        yield from _texts(Part(name, media_type, content), inner, budget)


def begins_with_part(data: bytes, content_type: str) -> bool:
    """Tell whether a body whose Content-Type is multipart/… begins with its boundary."""
    try:
        _, parameters = _content_type([(b"content-type", content_type.encode("latin-1"))], served=True)
    except Refusal:
        return False
    boundary = parameters.get(b"boundary", b"")
    return bool(boundary) and data.startswith(b"--" + boundary)


def _check_line_ends(text: bytes) -> None:
    stray = stray_line_end(text)
    if stray >= 0 or text.endswith(b"\r"):
        raise Refusal("mime-line-end", f"expected CRLF; got {text[stray:][:1]!r} alone")


def _texts(part: Part, parameters: dict[bytes, bytes], budget: Budget) -> Iterator[Part]:
    """Yield a leaf, and what programs show of it instead of its bytes."""
    yield part
    shown = part.content
    label = parameters.get(b"charset") or parameters.get(b"charset*", b"").rpartition(b"'")[2]
    if reader := named(label.decode("latin-1")):
        shown = reader.feed(shown) + reader.finish()
    if parameters.get(b"delsp", b"").lower() == b"yes":
        shown = unflowed(shown)
    if shown != part.content:
        budget.bytes(len(shown))
        yield Part(part.name, part.media_type, shown)
    if part.media_type.startswith("text/"):
        for name, content in uuencoded(shown):
            budget.member()
            budget.bytes(len(content))
            yield Part(name.decode("utf-8", "replace"), "application/octet-stream", content)


def _multipart(
    body: bytes, boundary: bytes, budget: Budget, depth: int, doubts: list[Refusal] | None = None
) -> Iterator[Part]:
    for piece in _split(body, boundary, budget, doubts):
        try:
            yield from message_parts(piece, budget, depth + 1, doubts)
        except LimitHit:
            raise
        except Refusal:
            if doubts is None:
                raise


def _split(
    body: bytes,
    boundary: bytes,
    budget: Budget,
    doubts: list[Refusal] | None = None,
    *,
    served: bool = False,
) -> list[bytes]:
    """Return the parts between the delimiters; what comes before the first and after the last is no part.

    served: a server reads it, no mail program.
    """
    if not _is_usable(boundary, doubts):
        return []
    parts: list[bytes] = []
    start: int | None = None
    marker = b"--" + boundary
    for place in _lines(body, marker):
        _check_count(len(parts) + len(doubts or ()), budget.limits.members)
        if place and body[place - 2 : place] != b"\r\n":
            _doubt("a boundary behind something else than CRLF: servers read it or don't", doubts)
            continue
        line_end = body.find(b"\r\n", place)
        rest = body[place + len(marker) : line_end if line_end >= 0 else len(body)]
        closes = rest.rstrip(b" \t") == b"--"
        if not closes and (rest.strip(b" \t") or line_end < 0):
            if doubts is None or line_end >= 0:  # what may be no mail may be cut off
                _doubt(f"a line that begins like the boundary and goes on: {rest[:40]!r}", doubts)
            continue
        if start is not None:
            parts.append(body[start : max(start, place - 2)])
        if closes:
            if served:
                _check_behind(body[place + len(marker) :], marker)
            return parts
        start = line_end + 2
    if doubts is None:
        raise Refusal("mime-boundary", "the closing boundary is missing")
    return parts if start is None else [*parts, body[start:]]


def _is_usable(boundary: bytes, doubts: list[Refusal] | None) -> bool:
    if not boundary or (doubts is None and not _BOUNDARY.fullmatch(boundary)):
        raise Refusal("mime-boundary", f"expected a boundary of 1 to 70 characters; got {boundary[:80]!r}")
    if len(boundary) > _LONGEST_BOUNDARY:
        _doubt(f"a boundary of {len(boundary)} characters: {boundary[:40]!r}", doubts)
        return False
    return True


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise LimitHit("members", most, " parts in one message")


def _lines(body: bytes, marker: bytes) -> Iterator[int]:
    """Yield where lines begin with the marker."""
    if body.startswith(marker):
        yield 0
    yield from heapq.merge(_behind(body, b"\n", marker), _behind(body, b"\r", marker))


def _behind(body: bytes, end: bytes, marker: bytes) -> Iterator[int]:
    # no pattern: re would keep one of each message
    place = 0
    while (place := body.find(end + marker, place) + 1) > 0:
        yield place


def _doubt(detail: str, doubts: list[Refusal] | None, check: str = "mime-boundary") -> None:
    """Refuse, or note it."""
    refusal = Refusal(check, detail)
    if doubts is None:
        raise refusal
    doubts.append(refusal)


def _check_behind(rest: bytes, marker: bytes) -> None:
    """Refuse parts behind the closing boundary: PHP reads on."""
    if b"\n" + marker in rest or b"\r" + marker in rest:
        raise Refusal("mime-boundary", "the boundary stands once more behind the closing one")


def _head(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    if data.startswith(b"\r\n"):
        return [], data[2:]
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        head = data.removesuffix(b"\r\n")
    fields: list[tuple[bytes, bytes]] = []
    for line in re.sub(rb"\r\n([ \t])", rb"\1", head).split(b"\r\n"):
        match = _FIELD.fullmatch(line)
        if not match:
            raise Refusal("mime-field", f"expected `Name: value`; got {line[:60]!r}")
        fields.append((match[1].lower(), match[2]))
    return fields, body


def _single(fields: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    values = [value for one, value in fields if one == name]
    if len(values) > 1:
        raise Refusal(
            "mime-field-twice", f"{name.decode()} stands {len(values)} times: programs choose differently"
        )
    return values[0] if values else None


def _content_type(
    fields: list[tuple[bytes, bytes]], doubts: list[Refusal] | None = None, *, served: bool = False
) -> tuple[str, dict[bytes, bytes]]:
    value = _single(fields, b"content-type")
    if value is None:
        return "text/plain", {}
    match = _TYPE.match(value)
    if not match:
        raise Refusal("mime-type", f"expected TYPE/SUBTYPE; got {value[:60]!r}")
    if served and b"boundary" in match[1].lower():
        raise Refusal(
            "mime-type", f"expected TYPE/SUBTYPE; got {value[:60]!r}, in which servers find a boundary"
        )
    media_type = match[1].decode().lower()
    parted = media_type.startswith("multipart/")
    found: dict[bytes, bytes] = {}
    try:
        for parameter in _parameters(value, "content-type", match.end()):
            name = parameter[1].lower()
            if parted and name == b"boundary":
                _check_boundary(parameter, doubts)
            elif served and b"boundary" not in found:
                _check_other(parameter)
            found[name] = _value(parameter)
    except Refusal as refusal:
        if doubts is None:
            raise
        if parted:
            doubts.append(refusal)
            raise
        return media_type, {}
    return media_type, found


def _parameters(field: bytes, kind: str, place: int) -> Iterator["re.Match[bytes]"]:
    """Yield the parameters of a field that begin at a place, each once."""
    seen = set()
    while place < len(field):
        match = _PARAMETER.match(field, place)
        if not match:
            raise Refusal(
                "mime-parameter", f"{kind}: expected `; name=value`; got {field[place : place + 60]!r}"
            )
        place = match.end()
        if match[1] is None:
            continue
        name = match[1].lower()
        if name in seen or name.startswith(b"boundary*"):
            raise Refusal("mime-parameter", f"{kind}: {name.decode()} stands twice or in pieces")
        seen.add(name)
        yield match


def _value(parameter: "re.Match[bytes]") -> bytes:
    return re.sub(rb"\\(.)", rb"\1", parameter[2]) if parameter[2] is not None else parameter[3]


def _check_boundary(parameter: "re.Match[bytes]", doubts: list[Refusal] | None) -> None:
    """Refuse a boundary that programs read differently: some take a comment out, or leave the backslashes in."""
    quoted, bare = parameter[2], parameter[3]
    if b"\\" in quoted if bare is None else not _BARE_BOUNDARY.fullmatch(bare):
        _doubt(f"a boundary that programs read differently: {parameter[0][:60]!r}", doubts, "mime-parameter")


def _check_other(parameter: "re.Match[bytes]") -> None:
    """Refuse what servers take for the boundary: PHP takes what follows the first `boundary` anywhere."""
    if b"boundary" in parameter[0].lower():
        raise Refusal("mime-parameter", f"servers find a boundary in it: {parameter[0][:60]!r}")


def _disposition_name(fields: list[tuple[bytes, bytes]], doubts: list[Refusal] | None = None) -> bytes | None:
    value = _single(fields, b"content-disposition")
    if value is None:
        return None
    place = value.find(b";") if b";" in value else len(value)
    try:
        parameters = {one[1].lower(): _value(one) for one in _parameters(value, "content-disposition", place)}
    except Refusal:
        if doubts is None:
            raise
        return None  # only a name
    return parameters.get(b"filename") or parameters.get(b"name")


def _decode_loosely(body: bytes, coding: bytes) -> bytes:
    """Decode what may be cut off or no mail at all, as far as it can be."""
    try:
        return _decode(body, coding)
    except Refusal:
        return unpacked(body) if coding == b"base64" else _undo_quoted(body)


def _undo_quoted(body: bytes) -> bytes:
    return _QUOTED.sub(lambda one: binascii.unhexlify(one[1]) if one[1] else b"", body)


def _decode(body: bytes, coding: bytes) -> bytes:
    match coding:
        case b"7bit" | b"8bit" | b"binary":
            return body
        case b"base64":
            packed = body.translate(None, b" \t\r\n")
            signs = packed[:-2] + packed[-2:].rstrip(b"=")
            if len(packed) % 4 or signs.translate(None, _BASE64):
                raise Refusal("mime-base64", "characters that are no base64, or an incomplete end")
            return base64.b64decode(packed)
        case b"quoted-printable":
            if _BROKEN.search(body):
                raise Refusal(
                    "mime-quoted-printable", "= that is followed by neither two digits nor the line's end"
                )
            # of what is whole the library says the same, but for blanks before a line's end
            return _undo_quoted(body) if b"= " in body or b"=\t" in body else binascii.a2b_qp(body)
        case _:
            raise Refusal(
                "mime-coding", f"expected 7bit, 8bit, binary, base64 or quoted-printable; got {coding[:40]!r}"
            )
