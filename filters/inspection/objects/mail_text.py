"""Read what a mail's text says beside its bytes: coded words in fields (RFC 2047), files in uuencode, joined lines; and tell stored mail."""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from filters.inspection.coding.charset import named

_WORD = re.compile(rb"=\?([^?\s]{1,60})\?([BbQq])\?([^?]*)\?=(?:[ \t]+(?==\?))?")
_MAIL = re.compile(
    rb"(?:From [^\n]*\n)?(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*)*?(?:Content-Type|Content-Transfer-Encoding|MIME-Version):",
    re.IGNORECASE,
)
_SAYS_MIME = re.compile(rb"(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*)*?MIME-Version:[ \t]*1\.0", re.IGNORECASE)
_NO_BASE64: Final = re.sub(rb"[0-9A-Za-z+/]", b"", bytes(range(256)))
_LOOKED_AT: Final = 1 << 16  # bytes: fields longer than that are no mail's
_MBOX = re.compile(rb"(?:\A|\n\r?\n)From [^\n]*\n")
_BEGIN = re.compile(rb"begin [0-7]{3,4} ([^\r\n]*)\r?\n")
_AS_UU: Final = bytes(32 + (letter - 32 & 63) for letter in range(256))  # only six bits count
_YENC = re.compile(rb"=ybegin [^\r\n]*?name=([^\r\n]*)\r?\n(?:=ypart [^\r\n]*\r?\n)?")
_YENC_ENDS = re.compile(rb"\n=y(?:end|begin) ?")
_YENC_STEP: Final = 1 << 16  # bytes
_YENC_LETTERS: Final = bytes(letter - 42 & 255 for letter in range(256))
_NO_MESSAGES: Final = frozenset(
    f"message/{kind}"
    for kind in (
        "partial", "external-body", "http", "s-http", "delivery-status", "global-delivery-status", "disposition-notification",
        "global-disposition-notification", "feedback-report", "tracking-status", "global-headers", "sip", "sipfrag",
    )
)  # fmt: skip
_BEGIN_64 = re.compile(rb"begin-base64 [0-7]{3,4} ([^\r\n]*)\r?\n([0-9A-Za-z+/=\s]*)")


def spelled_fields(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the fields that say something else than their bytes, as they are shown."""
    shown = [_WORD.sub(_word, unquote_to_bytes(value) if b"%" in value else value) for _, value in fields]
    return b"\n".join(new for new, (_, old) in zip(shown, fields, strict=True) if new != old)


def _word(match: "re.Match[bytes]") -> bytes:
    text = match[3]
    said = binascii.a2b_qp(text, header=True) if match[2] in b"Qq" else unpacked(text)
    reader = named(match[1].split(b"*")[0].decode("latin-1"))
    return reader.feed(said) + reader.finish() if reader else said


def uuencoded(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, content) of each file in a text; a line that can't be read ends its file."""
    for begin in _at_line_starts(_BEGIN, b"begin ", text):
        yield begin[1], b"".join(_lines(text, begin.end()))
    for begin in _at_line_starts(_BEGIN_64, b"begin-base64 ", text):
        yield begin[1], unpacked(begin[2].split(b"====")[0])


def _at_line_starts(pattern: re.Pattern[bytes], word: bytes, text: bytes) -> Iterator["re.Match[bytes]"]:
    """Yield what lines begin with; the word that it begins with itself is found ten times as fast as a line's begin."""
    at = text.find(word)
    while at >= 0:
        begins_line = at == 0 or text[at - 1] == ord("\n")
        found = pattern.match(text, at) if begins_line else None
        if found:
            yield found
        at = text.find(word, found.end() if found else at + 1)


def unpacked(text: bytes) -> bytes:
    """Return what base64 says, as far as it is some."""
    packed = text.translate(None, _NO_BASE64)
    return base64.b64decode(packed[: len(packed) - (len(packed) % 4 == 1)] + b"=" * (-len(packed) % 4))


def _lines(text: bytes, at: int) -> Iterator[bytes]:
    while at < len(text):
        stop = text.find(b"\n", at)
        stop = len(text) if stop < 0 else stop
        line = text[at:stop].rstrip(b"\r")
        at = stop + 1
        if line.rstrip() == b"end" or line.startswith(b"begin "):
            return
        if not line:  # some programs skip it
            continue
        size = ((line[0] - 32 & 63) * 4 + 5) // 3  # some programs write more than a line needs
        try:
            yield binascii.a2b_uu(line[:size].translate(_AS_UU))
        except binascii.Error:
            return


def yencoded(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, content) of each file in yEnc (version 1.3) in a text."""
    for begin in _at_line_starts(_YENC, b"=ybegin ", text):
        stop = _YENC_ENDS.search(text, begin.end() - 1)
        packed = text[begin.end() : stop.start() if stop else len(text)].translate(None, b"\r\n")
        yield begin[1], b"".join(_unyenc(packed))


def _unyenc(packed: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(packed):  # in steps: each escape is an object for a moment
        step = packed[at : at + _YENC_STEP]
        at += len(step)
        if step.endswith(b"="):
            step, at = step + packed[at : at + 1], at + 1
        first, *escaped = step.split(b"=")
        yield first.translate(_YENC_LETTERS)
        yield b"".join(
            bytes([one[0] - 106 & 255]) + one[1:].translate(_YENC_LETTERS) for one in escaped if one
        )


def is_message(media_type: str) -> bool:
    """Tell whether a type is that of a whole message: of the kinds of message/… those that have a body with parts."""
    kind = media_type.partition(";")[0].strip().lower()
    return kind.startswith("message/") and kind not in _NO_MESSAGES


def unflowed(text: bytes) -> bytes:
    """Return a text of `format=flowed; delsp=yes` (RFC 3676) with its lines joined."""
    return text.replace(b" \r\n", b"")


def looks_like_mail(data: bytes) -> bool:
    """Tell whether a file begins as a stored mail does: with fields, one of them MIME's."""
    return _MAIL.match(data, 0, _LOOKED_AT) is not None


def is_surely_mail(mail: bytes) -> bool:
    """Tell whether a stored mail is one: it says so (RFC 2045 section 4), and has what may be parts."""
    return b"\n--" in mail and _SAYS_MIME.match(mail, 0, _LOOKED_AT) is not None


def stored_mails(data: bytes) -> Iterator[bytes]:
    """Yield the mails of a file as they were when they were sent, with CRLF: all of an mbox, or the one it is."""
    for mail in _MBOX.split(data) if data.startswith(b"From ") else (data,):
        if mail:
            yield mail.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
