"""Read the credentials that a client logs in with: they are meant for this server, what they say is scanned all the same."""

import base64
import binascii
import re

_LOGIN = re.compile(
    rb"^(authorization:[ \t]*)(?:(basic) +([0-9A-Za-z+/]+={0,2})|(bearer) +([0-9A-Za-z_-]+)\.([0-9A-Za-z_-]+)\.([0-9A-Za-z_-]+))"
    rb"(?=[ \t]*\r$)",
    re.IGNORECASE | re.MULTILINE,
)


def spelled_out(head: bytes) -> bytes:
    """Return a request's head to scan: the credentials of its Authorization field stand in pieces, behind what they say.

    Basic (RFC 7617) says `user:password`, a bearer that is a JSON web token (RFC 7519) its two readable parts. That a
    client logs in is no leak, a token of another service inside is; it may also be a piece as it stands, for not all that
    can be decoded is meant so. Whatever can't be decoded stays as it is.
    """
    return _LOGIN.sub(_said, head)


def _said(match: "re.Match[bytes]") -> bytes:
    pieces = (match[3],) if match[2] else (match[5], match[6], match[7])
    try:
        said = [
            base64.b64decode(
                one + b"=" * (-len(one) % 4), altchars=b"-_" if match[4] else None, validate=True
            )
            for one in pieces[:2]
        ]
    except binascii.Error:
        return match[0]
    return match[1] + (match[2] or match[4]) + b"\n" + b"\n".join((*said, *pieces))
