"""Undo what forms do to text before they send it: application/x-www-form-urlencoded, piece by piece."""

import re
from urllib.parse import unquote_to_bytes

_UNFINISHED = re.compile(rb"%[0-9A-Fa-f]?\Z")


class UrlEncoded:
    """One body. What is escaped comes out as bytes, a plus as a blank, and what is no escape as it is."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` says; an escape that is not whole waits for the next piece."""
        data = self._left + data
        cut = _UNFINISHED.search(data)
        self._left = data[cut.start() :] if cut else b""
        return unquote_to_bytes((data[: cut.start()] if cut else data).replace(b"+", b" "))

    def finish(self) -> bytes:
        """Say that no more comes; return what waited."""
        left, self._left = self._left, b""
        return left
