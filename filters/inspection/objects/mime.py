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
from itertools import chain
from typing import Final

from filters.inspection.coding.charset import named
from filters.inspection.coding.line_ends import stray_line_end
from filters.inspection.finding import LimitHit, Refusal
from filters.inspection.objects.archive import Budget
from filters.inspection.objects.mail_text import (
    is_message,
    spelled_fields,
    unflowed,
    unpacked,
    uuencoded,
    yencoded,
)
from filters.inspection.objects.mime_fields import (
    SHORTER,
    coding_of,
    disposition_name,
    doubt,
    head,
    type_of,
)

_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_LONGEST_BOUNDARY: Final = 1000  # bytes: a line of mail has 998
_QUOTED = re.compile(rb"=(?:([0-9A-Fa-f]{2})|[ \t]*(?:\r\n|\Z))")
_BROKEN = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*(?:\r\n|\Z))")
# what Gmail sends back of a message, whatever its head says
_TRUNCATED: Final = b"----- Message truncated -----"
_PLAIN = (b"7bit", b"8bit", b"binary")
_BASE64: Final = (string.ascii_letters + string.digits + "+/").encode()


@dataclass(frozen=True, slots=True)
class Part:
    """One leaf: its name or media type, and its decoded content. What is no object (fields) has no media type."""

    name: str
    media_type: str
    content: bytes


def message_parts(
    data: bytes,
    budget: Budget,
    depth: int = 0,
    doubts: list[Refusal] | None = None,
    *,
    default: str = "text/plain",
) -> Iterator[Part]:
    """Yield the leaves of a message, which is of the default type unless it says so; raises Refusal and LimitHit.

    doubts: given for what may be no mail. As much as can be read is yielded then, and where mail programs may find other
    parts than these is noted in it.
    """
    if depth > budget.limits.depth:
        raise LimitHit("depth", budget.limits.depth, " parts inside one another")
    if doubts is None:
        _check_line_ends(data)
    fields, body = head(data, doubts)
    if spelled := spelled_fields(fields):
        yield Part("fields", "", spelled)
    media_type, parameters = type_of(fields, doubts, default=default)
    coding = coding_of(fields, b"7bit", doubts)
    if media_type == "message/partial":
        raise Refusal("mime-partial", "a part of a message that only its receiver puts together")
    if media_type.startswith("multipart/"):
        if coding not in _PLAIN and doubts is None:
            raise Refusal("mime-coding", f"a multipart that is itself {coding[:40]!r}")
        yield from _multipart(body, media_type, parameters, budget, depth, doubts)
        return
    _check_single_part(body, parameters, doubts)
    budget.member()
    content = _decode(body, coding) if doubts is None else _decode_loosely(body, coding)
    budget.bytes(len(content))
    if is_message(media_type):
        yield from message_parts(_nested(body, content, coding, doubts), budget, depth + 1, doubts)
        return
    name = parameters.get(b"name") or disposition_name(fields, doubts) or media_type.encode()
    yield from _texts(Part(name.decode("utf-8", "replace"), media_type, content), parameters, budget)


def form_parts(data: bytes, content_type: str, budget: Budget) -> Iterator[Part]:
    """Yield the parts of a body whose Content-Type is multipart/…; raises Refusal and LimitHit."""
    _, parameters = type_of([(b"content-type", content_type.encode("latin-1"))], served=True)
    for piece in _split(data, parameters.get(b"boundary", b""), budget, served=True):
        budget.member()
        _check_line_ends(b"" if piece.startswith(b"\r\n") else piece.partition(b"\r\n\r\n")[0])
        fields, body = head(piece)
        media_type, inner = type_of(fields)
        coding = coding_of(fields, b"binary")
        name = (disposition_name(fields) or b"part").decode("utf-8", "replace")
        nested = media_type.startswith("multipart/") or is_message(media_type)
        if nested or coding not in _PLAIN:  # most servers keep the part as it came
            budget.bytes(len(body))
            yield Part(name, "application/octet-stream", body)
        if media_type.startswith("multipart/"):
            yield from _multipart(body, media_type, inner, budget, 1)
            continue
        content = _decode(body, coding)
        budget.bytes(len(content))
        if is_message(media_type):
            yield from message_parts(_nested(body, content, coding, None), budget, 1)
            continue
        yield from _texts(Part(name, media_type, content), inner, budget)


def begins_with_part(data: bytes, content_type: str) -> bool:
    """Tell whether a body whose Content-Type is multipart/… begins with its boundary."""
    try:
        _, parameters = type_of([(b"content-type", content_type.encode("latin-1"))], served=True)
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
        for name, content in chain(uuencoded(shown), yencoded(part.content)):
            budget.member()
            budget.bytes(len(content))
            yield Part(name.decode("utf-8", "replace"), "application/octet-stream", content)


def _multipart(
    body: bytes,
    media_type: str,
    parameters: dict[bytes, bytes],
    budget: Budget,
    depth: int,
    doubts: list[Refusal] | None = None,
) -> Iterator[Part]:
    if shorter := parameters.get(SHORTER):
        _check_shorter(body, shorter, doubts)
    pieces = _split(body, parameters.get(b"boundary", b""), budget, doubts)
    if not pieces and doubts is None:  # nobody finds a part: bounces have so much of a message
        budget.member()
        yield from _texts(Part("text/plain", "text/plain", body), {}, budget)
    default = "message/rfc822" if media_type == "multipart/digest" else "text/plain"
    for piece in pieces:
        try:
            yield from message_parts(piece, budget, depth + 1, doubts, default=default)
        except LimitHit:
            raise
        except Refusal:
            if doubts is None:
                raise


def _check_shorter(body: bytes, shorter: bytes, doubts: list[Refusal] | None) -> None:
    """Refuse parts that only those see who end a bare boundary early."""
    marker = b"--" + shorter
    for place in _lines(body, marker):
        line = body[place + len(marker) : body.find(b"\n", place) % (len(body) + 1)]
        if line.strip() in (b"", b"--"):
            doubt(f"a boundary that programs read differently: {shorter[:60]!r}", doubts, "mime-parameter")
            return


def _check_single_part(body: bytes, parameters: dict[bytes, bytes], doubts: list[Refusal] | None) -> None:
    """Refuse what has the parts that its type denies: some go by the boundary alone."""
    boundary = parameters.get(b"boundary")
    if boundary and next(_lines(body, b"--" + boundary), None) is not None:
        doubt("parts in what is no multipart", doubts, "mime-type")


def _nested(body: bytes, content: bytes, coding: bytes, doubts: list[Refusal] | None) -> bytes:
    """Return a message in a message, with the line ends of one."""
    if coding not in (*_PLAIN, b"base64") and content != body:
        doubt(f"a message that is itself {coding[:40]!r}: programs decode it or don't", doubts, "mime-coding")
    return content.replace(b"\n", b"\r\n") if coding == b"base64" and b"\r" not in content else content


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
        line_end = body.find(b"\r\n", place)
        closes = _delimits(body, place, place + len(marker), line_end, doubts)
        if closes is None:
            continue
        if start is not None:
            parts.append(body[start : max(start, place - 2)])
        elif closes:
            doubt("the closing boundary stands before any other", doubts)
            continue
        if closes:
            if served:
                _check_behind(body[place + len(marker) :], marker)
            return parts
        start = line_end + 2
    if doubts is None and (served or start is not None):
        raise Refusal("mime-boundary", "the closing boundary is missing")
    return parts if start is None else [*parts, body[start:]]


def _delimits(
    body: bytes, place: int, behind: int, line_end: int, doubts: list[Refusal] | None
) -> bool | None:
    """Tell whether a line that begins with the boundary closes, or begins a part; None: it is no delimiter.

    place: where the line begins; behind: where the boundary in it ends; line_end: where the next CRLF is, or -1.
    """
    if place and body[place - 2 : place] != b"\r\n":
        doubt("a boundary behind something else than CRLF: servers read it or don't", doubts)
        return None
    rest = body[behind : line_end if line_end >= 0 else len(body)]
    if rest.rstrip(b" \t") == b"--":
        return True
    if not rest.strip(b" \t") and line_end >= 0:
        return False
    if doubts is None or line_end >= 0:  # what may be no mail may be cut off
        doubt(f"a line that begins like the boundary and goes on: {rest[:40]!r}", doubts)
    return None


def _is_usable(boundary: bytes, doubts: list[Refusal] | None) -> bool:
    if not boundary or (doubts is None and not _BOUNDARY.fullmatch(boundary)):
        raise Refusal("mime-boundary", f"expected a boundary of 1 to 70 characters; got {boundary[:80]!r}")
    if len(boundary) > _LONGEST_BOUNDARY:
        doubt(f"a boundary of {len(boundary)} characters: {boundary[:40]!r}", doubts)
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


def _check_behind(rest: bytes, marker: bytes) -> None:
    """Refuse parts behind the closing boundary: PHP reads on."""
    if b"\n" + marker in rest or b"\r" + marker in rest:
        raise Refusal("mime-boundary", "the boundary stands once more behind the closing one")


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
            if body.strip() == _TRUNCATED:
                return body
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
