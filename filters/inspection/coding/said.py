"""What a text says beside its bytes, whatever anybody calls it: JSON's escapes, and those of ISO-2022 that change nothing."""

import re
from collections.abc import Iterator
from typing import Final

from filters.inspection.coding.iso_2022 import Unchanged
from filters.inspection.coding.json_text import JsonText
from filters.inspection.patterns.pattern import REACH

READINGS: Final = ("json", "sets")
_JSON: Final = re.compile(rb"[\s\0\xef\xbb\xbf\xfe\xff]*[\[{\"]")
_ESCAPE: Final = re.compile(rb"\\\0*u(?:\0*[0-9A-Fa-f]){4}")
_LONGEST_ESCAPE: Final = 24  # bytes, in UTF-32


class Said:
    """One text, in pieces. A reading begins with what it is for, and with as much before it as a match may span."""

    def __init__(self) -> None:
        self._before = b""  # the last REACH bytes
        self._is_json: bool | None = None  # by its first byte: then any backslash escapes something
        self._json: JsonText | None = None
        self._sets: Unchanged | None = None

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield what `data` says, and how it was read."""
        if self._is_json is None and data.strip(b" \t\r\n\0\xef\xbb\xbf\xfe\xff"):
            self._is_json = _JSON.match(data) is not None
        if self._json or self._escapes(data):
            fresh, self._json = not self._json, self._json or JsonText()
            text = self._before + data if fresh else data
            yield "json", self._json.feed(text.replace(b"\0", b""))
        if self._sets or self._changes(data):
            fresh, self._sets = not self._sets, self._sets or Unchanged()
            yield "sets", self._sets.feed(self._before + data if fresh else data)
        self._before = data[-REACH:] if len(data) >= REACH else (self._before + data)[-REACH:]

    def finish(self) -> Iterator[tuple[str, bytes]]:
        """Say that no more comes; yield what waited."""
        if self._json:
            yield "json", self._json.finish()
        if self._sets:
            yield "sets", self._sets.finish()

    def _escapes(self, data: bytes) -> bool:
        if self._is_json:
            return b"\\" in data
        near = self._before[-_LONGEST_ESCAPE:] + data[:_LONGEST_ESCAPE]
        return any(b"\\" in one and _ESCAPE.search(one) is not None for one in (near, data))

    def _changes(self, data: bytes) -> bool:
        near = self._before[-2:] + data[:2]
        return any(sign in one for sign in (b"\x1b(B", b"\x1b(J") for one in (near, data))


def readings(data: bytes) -> Iterator[bytes]:
    """Yield what a whole text says beside its bytes, in each way to read it."""
    said, whole = Said(), dict[str, bytes]()
    for how, text in (*said.feed(data), *said.finish()):
        whole[how] = whole.get(how, b"") + text
    yield from whole.values()
