"""Tell whole answers from pieces: RFC 9110 section 14.4."""

import re

from filters.inspection.finding import Refusal
from filters.inspection.protocols.http.head import Fields, Status

_CONTENT_RANGE = re.compile(rb"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


def is_whole(status: Status) -> bool:
    """Tell whether an answer carries its whole object; raises Refusal when its head contradicts itself."""
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
    return _covers_all(match)


def is_whole_request(fields: Fields) -> bool:
    """Tell whether a request carries its whole object; a range in another form than answers have is a part as well."""
    given = fields.single(b"content-range")
    match = _CONTENT_RANGE.fullmatch(given) if given is not None else None
    return given is None or (match is not None and _covers_all(match))


def _covers_all(match: re.Match[bytes]) -> bool:
    first, last, whole = int(match[1]), int(match[2]), match[3]
    return first == 0 and whole != b"*" and last + 1 == int(whole)
