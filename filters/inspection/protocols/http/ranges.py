"""Tell whole answers from pieces: RFC 9110 section 14.4."""

import re

from filters.inspection.finding import Refusal
from filters.inspection.protocols.http.head import Fields, Request, Status

_CONTENT_RANGE = re.compile(rb"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_FROM_START = re.compile(rb"bytes[ \t]*=[ \t]*0+-\d*", re.IGNORECASE)


def is_whole(status: Status, request: Request) -> bool:
    """Tell whether an answer carries its whole object; raises Refusal when its head contradicts itself.

    Who asked for a later part puts what comes behind what it has, whatever the answer says it is.
    """
    given = status.fields.single(b"content-range")
    if status.code != 206:
        if given and status.code != 416:
            raise Refusal("http-range", f"content-range in a {status.code} answer")
        return True
    if given is None:
        return False  # multipart/byteranges
    match = _CONTENT_RANGE.fullmatch(given)
    if not match:
        raise Refusal("http-range", f"expected bytes FIRST-LAST/ALL; got {given[:60]!r}")
    asked = request.fields.all(b"range")
    return _covers_all(match) and all(_FROM_START.fullmatch(one) for one in asked)


def is_whole_request(fields: Fields) -> bool:
    """Tell whether a request carries its whole object; a range in another form than answers have is a part as well."""
    given = fields.single(b"content-range")
    match = _CONTENT_RANGE.fullmatch(given) if given is not None else None
    return given is None or (match is not None and _covers_all(match))


def _covers_all(match: re.Match[bytes]) -> bool:
    first, last, whole = int(match[1]), int(match[2]), match[3]
    return first == 0 and whole != b"*" and last + 1 == int(whole)
