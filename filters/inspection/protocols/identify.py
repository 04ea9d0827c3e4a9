"""Tell a protocol from the first bytes of a connection, never from its port."""

import re
from enum import Enum

from filters.inspection.finding import Direction
from filters.inspection.protocols.dns_start import begins_dns

_METHOD = re.compile(rb"[A-Z][A-Za-z-]{1,30} [^\r\n]")
_MAYBE_METHOD = re.compile(rb"[A-Z][A-Za-z-]{0,30} ?\Z")
# Redis, FTP, POP and people's own protocols begin with a word in capitals too. HTTP is what has a target of HTTP's form or
# names its version; and GET with anything, which HTTP/0.9 answers.
_TARGET = re.compile(rb"GET |[A-Za-z-]+ (?:[/*]|https?:)", re.IGNORECASE)
_VERSION = re.compile(rb"[^\n]*HTTP/", re.IGNORECASE)
# what lenient servers take for a request all the same: our parser refuses it
_ODD_REQUEST = re.compile(rb"[a-z-]{1,30}[ \t\x0b\x0c](?:[^\r\n\0]*[ \t\x0b\x0c])?http/[0-9]", re.IGNORECASE)
# any method at all (RFC 9110 section 5.6.2): then the version has to end the line, for logs quote requests too
_METHOD_NAME = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_BLANK, _WORD = (
    rb"[ \t\r\x0b\x0c\x1c-\x1f\x85\xa0]",
    rb"[^ \t\r\x0b\x0c\x1c-\x1f\x85\xa0\n\0]",
)  # as Python's http.server
_WANTED = rb"(?:(?:[/*]|https?:)[^\n\0]*|" + _WORD + rb"+" + _BLANK + rb"*)" + _BLANK
_REQUEST_LINE = re.compile(
    _METHOD_NAME + rb"+" + _BLANK + rb"+(?:" + _WANTED + rb")?http/[0-9+][0-9.+_-]*" + _BLANK + rb"*\n",
    re.IGNORECASE,
)
_MAYBE_ODD = re.compile(_METHOD_NAME + rb"*(?:" + _BLANK + rb"[^\n\0]*)?\Z")
_BLANKS = b" \t\r\n\x0b\x0c\xef\xbb\xbf"
_PREFACE = b"PRI * HTTP/2.0\r\n"
# servers take mail from who does not greet them, or says something else first
_BEFORE = rb"(?:NOOP|RSET|HELP|VRFY|EXPN)(?:[ \t][^\r\n]*)?"
_MAIL = rb"(?:(?:EHLO|HELO|LHLO)[ \t]|MAIL[ \t]+FROM[ \t]*:)"
_HELLO = re.compile(rb"(?:" + _BEFORE + rb"\r?\n)*" + _MAIL, re.IGNORECASE)
# On a later line it has to be a whole command, for letters and logs say "Mail from:" too; with blanks as Postfix skips them.
# The recipient counts in any form: no message goes without one, and hardly a text begins a line so.
_GAP = rb"[ \t\r\x0b\x0c]"
_SOME, _ANY = _GAP + rb"++", _GAP + rb"*+"
_END = _ANY + rb"\n"
_SENDER = rb"(?:<[^>\n]*+>|[^\s@<]*+@\S*+)"
_OPTIONS = rb"(?:" + _ANY + rb"(?:[A-Z0-9][A-Z0-9-]*+=\S*+|SMTPUTF8|REQUIRETLS))*+"
_FROM = rb"MAIL" + _SOME + rb"FROM" + _ANY + rb":" + _ANY + _SENDER + _OPTIONS + _END
_TO = rb"RCPT" + _SOME + rb"TO" + _ANY + rb":"
_FLAGS = re.IGNORECASE | re.MULTILINE
_ENVELOPE_LINE = re.compile(rb"^" + _ANY + rb"(?:" + _FROM + rb"|" + _TO + rb")", _FLAGS)
_HELLO_LINE = re.compile(rb"^" + _ANY + rb"(?:EHLO|HELO|LHLO)" + _SOME + rb"\S++" + _END, _FLAGS)
_EARLY = 128  # lines: a greeting carries nothing, and the servers that bear most take 20 errors and 100 NOOP
_MAYBE_HELLO = re.compile(
    rb"(?:" + _BEFORE + rb"\r?\n)*(?:" + _BEFORE + rb"\r?|(?<=\n)[^\r\n]*)\Z", re.IGNORECASE
)
LONGEST = 512  # bytes: by then it is decided, and nothing behind them counts (a line of RFC 5321)


class Guess(Enum):
    """What the first bytes of one direction are."""

    HTTP = "http"
    HTTP2 = "http2"
    TLS = "tls"
    SSH = "ssh"
    SMTP = "smtp"
    DNS = "dns"
    OTHER = "other"


def greets(start: bytes) -> bool:
    """Tell whether a server's first line is one that SMTP begins with, and others too."""
    return start.startswith((b"220 ", b"220-")) and b"\n" in start


def guess(direction: Direction, start: bytes) -> Guess | None:
    """Return what these first bytes are, or None while they may be several things."""
    start = start[:LONGEST]
    if not start:
        return None
    named = _client(start) if direction is Direction.TO_SERVER else _server(start)
    if named is not None:
        return named
    if len(start) < LONGEST and _undecided(direction, start):
        return None
    return Guess.OTHER


def late(lines: bytes, before: int, *, are_first: bool) -> Guess | None:
    """Return what a client's whole lines, behind so many `before`, show where the beginning did not.

    That is mail behind a line that servers answer with an error, or a request line that is longer than what decides.
    """
    if _ENVELOPE_LINE.search(lines) or _HELLO_LINE.search(_first(lines, _EARLY - before)):
        return Guess.SMTP
    return Guess.HTTP if are_first and _REQUEST_LINE.match(lines.lstrip(_BLANKS)) else None


def _first(lines: bytes, count: int) -> bytes:
    """Return so many of these whole lines."""
    return b"".join(line + b"\n" for line in lines.split(b"\n", count)[:count]) if count > 0 else b""


def _client(start: bytes) -> Guess | None:
    if start.startswith(_PREFACE):
        return Guess.HTTP2
    if (hello := _HELLO.match(start)) and (len(start) == LONGEST or b"\n" in start[hello.end() :]):
        return Guess.SMTP  # once the line is whole: what the server says may be an answer to it
    if start.startswith(b"SSH-"):  # before methods: its first bytes decide, however many come at once
        return Guess.SSH
    if _METHOD.match(start) and not _PREFACE.startswith(start) and _is_request(start):
        return Guess.HTTP
    if _tls(start, b"\x01"):
        return Guess.TLS
    text = start.lstrip(_BLANKS)
    if _ODD_REQUEST.match(text) or _REQUEST_LINE.match(text) or (not text and len(start) == LONGEST):
        return Guess.HTTP
    return Guess.DNS if begins_dns(start, LONGEST, answer=False) else None


def _server(start: bytes) -> Guess | None:
    if start.startswith(b"SSH-"):
        return Guess.SSH
    if re.match(rb"220[ -][^\r\n]{0,400}SMTP", start, re.IGNORECASE):
        return Guess.SMTP
    if re.match(rb"HTTP/1\.", start):
        return Guess.HTTP
    if _tls(start, b"\x02"):
        return Guess.TLS
    return Guess.DNS if begins_dns(start, LONGEST, answer=True) else None


def _is_request(start: bytes) -> bool:
    """Tell whether a word in capitals and what follows are HTTP's; a first line that is too long to see may be."""
    whole_line = b"\n" in start or len(start) < LONGEST
    return bool(_TARGET.match(start) or _VERSION.match(start)) or not whole_line


def _tls(start: bytes, message: bytes) -> bool:
    return len(start) >= 6 and start[0] == 22 and start[1] == 3 and start[2] <= 4 and start[5:6] == message


def _undecided(direction: Direction, start: bytes) -> bool:
    if direction is Direction.TO_CLIENT:
        # a banner of SMTP may look like one of FTP: then the client tells
        return (
            b"220".startswith(start[:3])
            or b"SSH-".startswith(start)
            or b"HTTP/1.".startswith(start)
            or (start[0] == 22 and len(start) < 6)
            or begins_dns(start, LONGEST, answer=True) is None
        )
    return (
        bool(_MAYBE_METHOD.match(start) or _MAYBE_ODD.match(start.lstrip(_BLANKS)))
        or (b"\n" not in start and bool(_METHOD.match(start)))
        or _PREFACE.startswith(start)
        or b"SSH-".startswith(start)
        or (start[0] == 22 and len(start) < 6)
        or begins_dns(start, LONGEST, answer=False) is None
        or bool(_MAYBE_HELLO.match(start) or _HELLO.match(start))
    )
