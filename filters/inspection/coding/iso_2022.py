"""Take the escapes out of text in ISO-2022: programs take any number of them that change nothing, before every character."""

import re
from typing import Final

_ESCAPES: Final = re.compile(rb"\x1b(?:[(.][@-~]|\$[()*+]?[@-~]|N)")
_SHIFTS_TOO: Final = re.compile(_ESCAPES.pattern + rb"|[\x0e\x0f]")
_UNFINISHED: Final = re.compile(rb"\x1b(?:[(.]|\$[()*+]?)?\Z")


class Unchanged:
    """One text, piece by piece, without what chooses its sets. shifts: also without what changes between two of them."""

    def __init__(self, *, shifts: bool = False) -> None:
        self._escapes = _SHIFTS_TOO if shifts else _ESCAPES
        self._left = b""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` says; an escape that is not whole waits for the next piece."""
        data = self._left + data
        cut = _UNFINISHED.search(data, max(0, len(data) - 3))
        self._left = data[cut.start() :] if cut else b""
        return self._escapes.sub(b"", data[: cut.start()] if cut else data)

    def finish(self) -> bytes:
        """Say that no more comes; return what waited."""
        left, self._left = self._left, b""
        return left
