"""Undo what JSON does to text (RFC 8259 section 7), piece by piece, whatever else the text is."""

import codecs
import re
from functools import lru_cache
from typing import Final

_FEW: Final = 128  # bytes for each escape: where there are no more of them, each is looked at by itself
_SAMPLE: Final = 1024  # bytes: most texts show there how many they have
_LAST: Final = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_CHARACTER: Final = re.compile(rb"\\u([0-9A-Fa-f]{4})")
_DIGITS: Final = re.compile(rb"[0-9A-Fa-f]{4}")
# what Python's decoder of escapes reads otherwise, and what would look as the mark below does
_ODD: Final = re.compile(rb"\\(?![\"/bfnrt]|u(?!00[fF]{2})[0-9A-Fa-f]{4})")
_PAIR: Final = b"\xff"  # stands for an escaped backslash meanwhile: no byte of UTF-8
_NONE: Final = b"\xfe"  # instead of such a byte: none of UTF-8 either
# the frequent ones first: when none is left, the others are not looked for
_SHORT: Final = {b'"': b'"', b"n": b"\n", b"/": b"/", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f"}


class JsonText:
    """One body."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` says; an escape that is not whole waits for the next piece."""
        data = self._left + data.replace(_PAIR, _NONE)
        end = _whole(data)
        self._left = data[end:]
        return _undone(data[:end])

    def finish(self) -> bytes:
        """Say that no more comes; return what waited."""
        left, self._left = self._left, b""
        return left


def _whole(data: bytes) -> int:
    """Return how far the escapes are whole: a backslash behind an odd one is what that one escapes."""
    last = _LAST.search(data, max(0, len(data) - 5))
    if last is None:
        return len(data)
    before = data[: last.start()]
    return len(data) if (len(before) - len(before.rstrip(b"\\"))) % 2 else last.start()


def _undone(data: bytes) -> bytes:
    """Undo whole escapes. Where there are many nothing is called for each of the short ones: there may be one for every two bytes."""
    places = _few(data)
    return _undone_together(data) if places is None else _undone_one_by_one(data, places)


def _few(data: bytes) -> list[int] | None:
    """Return where escapes begin, unless there are many."""
    if data.count(b"\\", 0, _SAMPLE) * _FEW > _SAMPLE:
        return None
    places: list[int] = []
    at = data.find(b"\\")
    while at >= 0 and len(places) * _FEW <= len(data):
        places.append(at)
        at = data.find(b"\\", at + 2)
    return places if at < 0 else None


def _undone_one_by_one(data: bytes, places: list[int]) -> bytes:
    said: list[bytes] = []
    start = 0
    for at in places:
        escape, end = data[at + 1 : at + 2], at + 2
        what = _SHORT.get(escape, escape)
        if digits := _DIGITS.match(data, at + 2) if escape == b"u" else None:
            what, end = _character(digits[0]).replace(_PAIR, b"\\"), digits.end()
        said += data[start:at], what
        start = end
    return b"".join((*said, data[start:]))


def _undone_together(data: bytes) -> bytes:
    is_ascii = data.isascii()
    data = data.replace(b"\\\\", _PAIR)
    if b"\\u" in data:
        if is_ascii and _ODD.search(data) is None:
            return _undone_at_once(data)
        parts = _CHARACTER.split(data)
        parts[1::2] = map(_character, parts[1::2])
        data = b"".join(parts)
    for escape, said in _SHORT.items():
        if b"\\" not in data:
            break
        data = data.replace(b"\\" + escape, said)
    return data.replace(b"\\", b"").replace(_PAIR, b"\\")


def _undone_at_once(data: bytes) -> bytes:
    """Do the same, pairs being marked, to ASCII without odd escapes: Python's own decoder is many times faster."""
    said, _ = codecs.unicode_escape_decode(data.replace(b"\\/", b"/"))
    return said.encode("utf-8", "replace").replace(_PAIR.decode("latin-1").encode(), b"\\")


@lru_cache(1024)
def _character(digits: bytes) -> bytes:
    return chr(int(digits, 16)).encode("utf-8", "replace").replace(b"\\", _PAIR)
