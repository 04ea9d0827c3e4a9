"""Undo what JSON does to text (RFC 8259 section 7), piece by piece, whatever else the text is."""

import re
from functools import lru_cache
from typing import Final

_LAST: Final = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_CHARACTER: Final = re.compile(rb"\\u([0-9A-Fa-f]{4})")
_PAIR: Final = b"\xff"  # stands for an escaped backslash meanwhile: no byte of UTF-8
_NONE: Final = b"\xfe"  # instead of such a byte: none of UTF-8 either
_SHORT: Final = ((b"\\n", b"\n"), (b"\\t", b"\t"), (b"\\r", b"\r"), (b"\\b", b"\b"), (b"\\f", b"\f"))


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
    """Undo whole escapes, with nothing called for each of the short ones: there may be one for every two bytes."""
    if b"\\" not in data:
        return data
    data = data.replace(b"\\\\", _PAIR)
    parts = _CHARACTER.split(data)
    parts[1::2] = map(_character, parts[1::2])
    data = b"".join(parts)
    if b"\\" in data:
        for escape, said in _SHORT:
            data = data.replace(escape, said)
    return data.replace(b"\\", b"").replace(_PAIR, b"\\")


@lru_cache(1024)
def _character(digits: bytes) -> bytes:
    return chr(int(digits, 16)).encode("utf-8", "replace").replace(b"\\", _PAIR)
