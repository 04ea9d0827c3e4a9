"""Name the parts of an HTTP head, as users' rules speak of them (Suricata's user guide, HTTP keywords)."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from filters.inspection.protocols.http.head import Fields, Request

Pairs = list[tuple[str, bytes]]

_UP: Final = {
    b"user-agent": "http.user_agent", b"referer": "http.referer", b"accept": "http.accept", b"accept-language": "http.accept_lang",
    b"accept-encoding": "http.accept_enc", b"cookie": "http.cookie",
}  # fmt: skip
_DOWN: Final = {b"server": "http.server", b"location": "http.location", b"set-cookie": "http.cookie"}
_BOTH: Final = {
    b"content-type": "http.content_type",
    b"content-length": "http.content_len",
    b"connection": "http.connection",
}
_WIDE = re.compile(rb"%[uU]([0-9A-Fa-f]{4})")
_OTHERWISE = re.compile(rb"%5[cC]|%[uU][0-9A-Fa-f]{4}")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


def request_buffers(request: Request, head: bytes) -> Pairs:
    """Return every part of a request's head with its name."""
    line = head[: head.index(b"\r\n")]
    found = [
        ("http.method", request.method),
        *(("http.uri", one) for one in read_uri(request.target)),
        ("http.uri.raw", request.target),
        ("http.request_line", line),
    ]
    named = _named_host(request)
    host = named or request.fields.single(b"host")
    if host is not None:
        plain = re.sub(rb":[0-9]*\Z", b"", host).lower().rstrip(b".")
        found += [("http.host", plain), ("http.host.raw", plain if named else host)]
    return found + _common(request.fields, head, line, _UP, "http.request_header")


def status_buffers(fields: Fields, head: bytes) -> Pairs:
    """Return every part of an answer's head with its name."""
    line = head[: head.index(b"\r\n")]
    _, code, *message = line.split(b" ", 2)
    found = [("http.stat_code", code), ("http.stat_msg", b"".join(message)), ("http.response_line", line)]
    return found + _common(fields, head, line, _DOWN, "http.response_header")


def read_uri(target: bytes) -> list[bytes]:
    """Return a target in its normal form; also as servers read it to whom `%uXXXX` is a character and a backslash a slash."""
    normal = normal_uri(target)
    if b"\\" not in target and not _OTHERWISE.search(target):
        return [normal]
    path, mark, query = target.partition(b"?")
    path = re.sub(rb"\\|%5[cC]", b"/", _WIDE.sub(_character, path))
    other = normal_uri(path + mark + _WIDE.sub(_character, query))
    return [normal] if other == normal else [normal, other]


def normal_uri(target: bytes) -> bytes:
    """Return a target without scheme and host, percent-decoded once, its path without `//`, `/./` and `/../`.

    A step up from the root is none.
    """
    named = _ABSOLUTE.match(target)
    path, mark, query = (target[named.end() :] if named else target).partition(b"?")
    return _resolved(unquote_to_bytes(path)) + mark + unquote_to_bytes(query)


def _character(match: re.Match[bytes]) -> bytes:
    """Return what `%uXXXX` stands for, percent-encoded; full-width forms are ASCII."""
    code = int(match[1], 16)
    code -= 0xFEE0 if 0xFF01 <= code <= 0xFF5E else 0
    plain = bytes([code]) if code < 0x100 else chr(code).encode("utf-8", "surrogatepass")
    return b"".join(b"%%%02x" % one for one in plain)


def _named_host(request: Request) -> bytes:
    """Return the host and port that the target names: then it counts, not the field (RFC 9112 section 3.2.2)."""
    if request.method == b"CONNECT":
        return request.target
    match = _ABSOLUTE.match(request.target)
    return unquote_to_bytes(match[1].rpartition(b"@")[2]) if match else b""


def _resolved(path: bytes) -> bytes:
    first, *parts = path.split(b"/")
    kept: list[bytes] = []
    for part in parts:
        if part == b"..":
            del kept[-1:]
        elif part not in {b"", b"."}:
            kept.append(part)
    if parts and parts[-1] in {b"", b".", b".."}:
        kept.append(b"")  # what such a segment leaves ends with a slash (RFC 3986 section 5.2.4)
    return b"/".join([first, *kept])


def _common(fields: Fields, head: bytes, line: bytes, own: dict[bytes, str], each: str) -> Pairs:
    lines = [one for one in head[len(line) + 2 : -4].split(b"\r\n") if one]
    written = [(name, *_written(one)) for (name, _), one in zip(fields.pairs, lines, strict=True)]
    shown = [name + b": " + value for key, name, value in written if key not in {b"cookie", b"set-cookie"}]
    named = own | _BOTH
    values: dict[str, list[bytes]] = {}
    for key, _, value in written:
        if key in named:
            values.setdefault(named[key], []).append(value)
    return [
        *((name, b", ".join(found)) for name, found in values.items()),
        ("http.protocol", line[-8:] if line[-8:].startswith(b"HTTP/") else line[:8]),
        ("http.header", b"".join(one + b"\r\n" for one in shown)),
        ("http.header.raw", head[len(line) + 2 :]),
        ("http.header_names", b"\r\n" + b"".join(name + b"\r\n" for _, name, _ in written) + b"\r\n"),
        ("http.start", b"\r\n".join([line, *(name + b": " + value for _, name, value in written), b"", b""])),
        *((each, name + b": " + value) for _, name, value in written),
    ]


def _written(line: bytes) -> tuple[bytes, bytes]:
    """Return a field's name in its own case, and its value."""
    name, _, value = line.partition(b":")
    return name, value.strip(b" \t")
