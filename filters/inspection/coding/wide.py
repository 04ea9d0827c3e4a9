"""Tell text in UTF-16 and UTF-32, which has zeros between its ASCII characters."""

import re
from typing import Final

LOOKED_AT: Final = 512  # bytes: a text shows by its beginning how it is written
_LITTLE: Final = b"\xff\xfe"
_BIG: Final = b"\xfe\xff"
_BOUND: Final = b"\x80"
_MARKS: Final = (_LITTLE, _BIG, b"\0\0\xfe\xff")
# of bytes in a row that are no zeros: those that are no ASCII character, by the order of bytes; and a bound where none is known
_BUT_LAST = re.compile(rb"[^\0]+(?=[^\0])")
_BUT_FIRST = re.compile(rb"(?<=[^\0])[^\0]+")
_BETWEEN = re.compile(rb"(?<=[^\0])[^\0]*(?=[^\0])")
_RUN = re.compile(rb"\x00[\x20-\x7e]" + rb"\x00{1,3}[\x20-\x7e]" * 6 + rb"\x00")


def begins_wide(start: bytes) -> bool:
    """Tell whether a text that begins so is wide: by its mark, or eight characters of ASCII in a row."""
    return start.startswith(_MARKS) or _RUN.search(start, 0, LOOKED_AT) is not None


class Narrower:
    """Turn a wide text, in pieces, into its ASCII characters; what is none of ASCII becomes a bound of words.

    In such a text a zero stands beside each ASCII character, so of two bytes that are none one is no such character:
    which one, a mark says, or the place of the first zeros. What may still be ASCII is told at once, for its zero is
    not worth waiting for.
    """

    def __init__(self, start: bytes) -> None:
        """Take what the text begins with, by which it shows to be wide."""
        run = _RUN.search(start, 0, LOOKED_AT)
        self._others = _BETWEEN
        if start.startswith(_BIG):
            self._others = _BUT_FIRST
        elif start.startswith(_LITTLE) or (run and run.start() % 2):  # zeros second: as Windows writes
            self._others = _BUT_LAST
        self._last = b""  # the latest byte, unless it was a zero

    @property
    def half(self) -> bool:
        """Tell whether the latest byte, told as ASCII, may prove to be half of another character."""
        return self._last != b"" and self._others is not _BUT_FIRST

    def narrowed(self, data: bytes) -> bytes:
        """Return what the next bytes say."""
        text = self._last + data
        if text[::2].strip(b"\0") and text[1::2].strip(b"\0"):  # else all of it is ASCII: the common case
            text = self._others.sub(_BOUND, text)
        if text.startswith(self._last):  # it was told already, and rightly
            text = text[len(self._last) :]
        if data:
            self._last = data[-1:].strip(b"\0")
        return text.translate(None, b"\0")  # ten times as fast as to replace it
