"""Read the head of an HTTP/1.x message: start line and fields. RFC 9112 sections 2 to 5, nothing tolerated."""

import re
from dataclasses import dataclass

from filters.inspection.finding import LimitHit, Refusal
from filters.inspection.limits import Limits

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t \x21-\x7e\x80-\xff]*))?")
_FIELD = re.compile(
    rb"("
    + _TOKEN
    + rb"):[ \t]*([\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?|)[ \t]*"
)
# one line that ends with CRLF and holds no other CR or LF
_END = b"\r\n\r\n"
_STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n|\x00")
# fields that say what a body is
_FRAMING = rb"(?:transfer-encoding|content-(?:length|encoding|range|type))[\t ]*:"
_FRAMING_NAME = re.compile(
    rb"(?:\A|[,\t ])(?:transfer-encoding|content-(?:length|encoding))(?=[,\t ]|\Z)", re.IGNORECASE
)
# Python's reader of fields took it for a line's end; elsewhere it is a part of many letters
_NEXT_LINE = re.compile(rb"\x85" + _FRAMING, re.IGNORECASE)
_TYPES_WITH_PARTS = (b"multipart/", b"message/", b"application/x-www-form-urlencoded")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%-]*)(?::[0-9]*)?")
_AUTHORITY = re.compile(rb"https?://(?:[^/?#@]*@)?([^/?#]*)", re.IGNORECASE)
_QUOTED = re.compile(rb"\"(?:[^\"\\]|\\.)*\"")
_ORDINARY, _ODD_LETTER = re.compile(rb"[A-Za-z0-9-]+"), re.compile(rb"[^a-z0-9]")
# gateways to CGI and WSGI take an underscore for a hyphen, some any sign: with one of these names it is an attack, never a habit
_DISGUISED = {b"transfer_encoding", b"content_length", b"content_encoding", b"content_type", b"content_range"}


@dataclass(frozen=True, slots=True)
class Fields:
    """Header fields in their order; names in lower case."""

    pairs: tuple[tuple[bytes, bytes], ...]

    def all(self, name: bytes) -> list[bytes]:
        """Return every value of a field."""
        return [value for one, value in self.pairs if one == name]

    def single(self, name: bytes) -> bytes | None:
        """Return the value of a field that may stand only once; raises Refusal when it stands twice."""
        values = self.all(name)
        if len(values) > 1:
            raise Refusal(
                "http-field-twice",
                f"{name.decode()} stands {len(values)} times: receivers choose differently",
            )
        return values[0] if values else None

    def media_type(self) -> bytes:
        """Return what the content says it is, b"" for nothing; raises Refusal for several types of which one has parts."""
        value = self.single(b"content-type") or b""
        types = value.split(b",")[1:]  # to who heeds no quotes
        if b"," in _QUOTED.sub(b"", value):
            types.append(value)
        if any(one.strip(b" \t").lower().startswith(_TYPES_WITH_PARTS) for one in types):
            raise Refusal("http-field-twice", f"several types: receivers choose differently: {value[:60]!r}")
        return value

    def list(self, name: bytes) -> list[bytes]:
        """Return the members of a comma-separated field, in lower case; raises Refusal for an empty member."""
        value = self.single(name)
        if value is None:
            return []
        members = [one.strip(b" \t").lower() for one in value.split(b",")]
        if not all(members):
            raise Refusal("http-empty-member", f"{name.decode()} has an empty member: {value[:60]!r}")
        return members


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head. `minor` is the x of HTTP/1.x."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields


@dataclass(frozen=True, slots=True)
class Status:
    """A response's head."""

    code: int
    minor: int
    fields: Fields


def cut_head(buffer: bytes | bytearray, limits: Limits, seen: int = 0) -> int:
    """Return where the head ends (past its empty line), or 0 when it is not whole yet.

    seen: how many bytes an earlier call looked at in vain, so that a head in many pieces costs no more than in one.

    Raises Refusal at the first line end that is not CRLF, even before the head is whole, and LimitHit.
    """
    end = buffer.find(_END, max(0, seen - 3))
    size = len(buffer) if end < 0 else end + 4
    stray = _STRAY.search(buffer, max(0, seen - 1), size)
    # a CR as the very last byte may yet be followed by its LF
    if stray and (end >= 0 or stray.start() != size - 1 or buffer[stray.start()] != 0x0D):
        raise Refusal(
            "http-line-end",
            f"expected CRLF; got {bytes(buffer[stray.start() : stray.start() + 2])!r} at {stray.start()}",
        )
    if size > limits.head:
        raise LimitHit("head", limits.head, " bytes in one head")
    return 0 if end < 0 else end + 4


def parse_request(head: bytes, limits: Limits) -> Request:
    """Read a request's head (with its empty line); raises Refusal."""
    line, fields = _lines(head, limits)
    match = _REQUEST.fullmatch(line)
    if not match:
        raise Refusal("http-request-line", f"expected METHOD target HTTP/1.x; got {line[:60]!r}")
    if match[1] != match[1].upper() and match[1].upper() in {b"HEAD", b"CONNECT"}:
        raise Refusal(
            "http-request-line", f"{match[1].decode()}: some servers heed a method's case, some do not"
        )
    _check_host(match[2], fields, int(match[3]))
    return Request(match[1], match[2], int(match[3]), fields)


def _check_host(target: bytes, fields: Fields, minor: int) -> None:
    """Refuse a request that goes to one host for some servers, and to another for others."""
    hosts = fields.all(b"host")
    if len(hosts) > 1 or (minor and not hosts):
        raise Refusal("http-host", f"expected one Host field; got {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise Refusal("http-host", f"expected a name or address and perhaps a port; got {hosts[0][:60]!r}")
    authority = _AUTHORITY.match(target)
    if authority and hosts and _plain_host(authority[1]) != _plain_host(hosts[0]):
        raise Refusal("http-host", f"the target names {authority[1][:60]!r}, Host {hosts[0][:60]!r}")


def _plain_host(authority: bytes) -> bytes:
    return authority.lower().removesuffix(b":80").removesuffix(b":443").removesuffix(b":")


def parse_status(head: bytes, limits: Limits) -> Status:
    """Read a response's head (with its empty line); raises Refusal."""
    line, fields = _lines(head, limits)
    match = _STATUS.fullmatch(line)
    if not match:
        raise Refusal(
            "http-status-line", f"expected HTTP/1.x and a status from 100 to 599; got {line[:60]!r}"
        )
    return Status(int(match[2]), int(match[1]), fields)


def parse_fields(lines: list[bytes], limits: Limits) -> Fields:
    """Read field lines without their line ends; raises Refusal for folded lines, bad names and controls."""
    if len(lines) > limits.headers:
        raise LimitHit("headers", limits.headers, " fields in one head")
    pairs = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if not match:
            raise Refusal("http-field", f"expected `name: value`; got {line[:60]!r}")
        if _NEXT_LINE.search(match[2]):
            raise Refusal("http-field", f"a second field behind a next-line character: {line[:60]!r}")
        if not _ORDINARY.fullmatch(match[1]) and _ODD_LETTER.sub(b"_", match[1].lower()) in _DISGUISED:
            raise Refusal("http-field", f"{match[1].decode()} is read as another field by some receivers")
        pairs.append((match[1].lower(), match[2]))
    found = Fields(tuple(pairs))
    for one in found.all(b"connection"):
        if _FRAMING_NAME.search(one):
            raise Refusal(
                "http-field", f"a Connection that takes framing away for who heeds it: {one[:60]!r}"
            )
    return found


def _lines(head: bytes, limits: Limits) -> tuple[bytes, Fields]:
    first, *rest = head[:-4].split(b"\r\n")
    return first, parse_fields(rest, limits)
