"""Undo what JSON does to text (RFC 8259 section 7), piece by piece, whatever else the text is."""

import re

_LAST = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_ESCAPE = re.compile(rb"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_SHORT = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f"}


class JsonText:
    """One body."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` says; an escape that is not whole waits for the next piece."""
        data = self._left + data
        end = _whole(data)
        self._left = data[end:]
        return _ESCAPE.sub(_character, data[:end])

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


def _character(match: "re.Match[bytes]") -> bytes:
    if match[1]:
        return chr(int(match[1], 16)).encode("utf-8", "replace")
    return _SHORT.get(match[2], match[2])
