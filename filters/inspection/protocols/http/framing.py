"""Say how long a message's body is: RFC 9112 section 6, where every contradiction is refused."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from filters.inspection.finding import Refusal
from filters.inspection.protocols.http.head import Fields, Request, Status

_TRANSFER: Final = {b"gzip", b"x-gzip", b"deflate"}  # registered as transfer codings, and undone here
_CHOSEN: Final = {"br", "zstd"}  # codings that nobody undoes who has not named them
_NO_CODING: Final = (
    [b"none"],
    [b"utf-8"],
)  # alone: nobody knows them, so everybody keeps the bytes; scripts that stream say so
_NEVER = re.compile(rb"q=0(?:\.0{0,3})?")


class Extent(Enum):
    """What ends a body."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    TUNNEL = "tunnel"  # no HTTP any more


@dataclass(frozen=True, slots=True)
class Framing:
    """A body's extent, its length in bytes (LENGTH only), and its codings in the order they were applied."""

    extent: Extent
    length: int
    codings: tuple[str, ...]


def request_framing(request: Request) -> Framing:
    """Return how a request's body is framed; raises Refusal."""
    extent, length, codings = _framing(request.fields, request.minor)
    if extent is None:
        return Framing(Extent.NONE, 0, ())
    return Framing(extent, length, codings)


def response_framing(status: Status, request: Request) -> Framing:
    """Return how the body of the answer to `request` is framed; raises Refusal."""
    extent, length, codings = _framing(status.fields, status.minor)
    informational = status.code < 200
    if (informational or status.code == 204) and (extent is Extent.CHUNKED or length):
        raise Refusal(
            "http-body-forbidden", f"a {status.code} answer has no body, but its head announces one"
        )
    if status.code == 101:
        if not request.fields.all(b"upgrade"):
            raise Refusal("http-upgrade", "101 without a request for an upgrade")
        return Framing(Extent.TUNNEL, 0, ())
    if request.method == b"CONNECT" and 200 <= status.code < 300:
        return Framing(Extent.TUNNEL, 0, ())
    if informational or status.code in {204, 304} or request.method == b"HEAD":
        return Framing(Extent.NONE, 0, ())
    if status.code == 205 and (extent is None or length):
        raise Refusal("http-body-forbidden", "a 205 answer has no body, but its head announces one")
    _check_asked(codings, request)
    return Framing(Extent.CLOSE if extent is None else extent, length, codings)


def _check_asked(codings: tuple[str, ...], request: Request) -> None:
    """Refuse a coding that the client, which says what it can undo, can't: it would keep the bytes as they are."""
    said = request.fields.all(b"accept-encoding")
    named = {name.decode("latin-1") for one in said for name in _named(one.lower())}
    if said and "*" not in named and (unasked := _CHOSEN.intersection(codings) - named):
        raise Refusal("coding-unasked", f"{min(unasked)}, of which the client's accept-encoding says nothing")


def _named(accepted: bytes) -> list[bytes]:
    """Return the codings that a value of Accept-Encoding allows."""
    members = [one.replace(b" ", b"").replace(b"\t", b"").split(b";") for one in accepted.split(b",")]
    return [name for name, *weight in members if not any(_NEVER.fullmatch(one) for one in weight)]


def _framing(fields: Fields, minor: int) -> tuple[Extent | None, int, tuple[str, ...]]:
    transfer, length = fields.list(b"transfer-encoding"), fields.single(b"content-length")
    said = fields.list(b"content-encoding")
    codings = [one.decode("latin-1") for one in said if one != b"identity"] if said not in _NO_CODING else []
    if fields.all(b"content-transfer-encoding"):
        raise Refusal(
            "http-mime-coding", "content-transfer-encoding has no meaning in HTTP, yet some receivers heed it"
        )
    if transfer:
        if not minor:
            raise Refusal("http-transfer-coding", "transfer-encoding in HTTP/1.0")
        if length is not None:
            raise Refusal("http-two-lengths", "both transfer-encoding and content-length")
        if transfer[-1] != b"chunked" or b"chunked" in transfer[:-1]:
            raise Refusal(
                "http-transfer-coding", f"expected chunked, once and last; got {b', '.join(transfer)[:60]!r}"
            )
        if unknown := set(transfer[:-1]) - _TRANSFER:
            raise Refusal(
                "http-transfer-coding", f"{min(unknown)[:40]!r} is no transfer coding that is known"
            )
        codings += [one.decode("latin-1") for one in transfer[:-1]]
        return Extent.CHUNKED, 0, tuple(codings)
    if length is not None:
        if not length.isdigit() or len(length) > 18 or (length[:1] == b"0" and length != b"0"):
            raise Refusal(
                "http-content-length",
                f"expected digits, the first no 0, which means octal to some; got {length[:40]!r}",
            )
        return (Extent.LENGTH if int(length) else Extent.NONE), int(length), tuple(codings)
    return None, 0, tuple(codings)
