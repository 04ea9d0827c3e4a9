"""What a text says beside its bytes, whatever anybody calls it: JSON's escapes, and those of ISO-2022 that change nothing."""

import codecs
import re
from collections.abc import Callable, Iterator
from typing import Final

from filters.inspection.coding.iso_2022 import Unchanged
from filters.inspection.coding.json_text import JsonText
from filters.inspection.coding.wide import LOOKED_AT, begins_wide
from filters.inspection.patterns.pattern import REACH

_READERS: Final[dict[str, Callable[[], JsonText | Unchanged]]] = {"json": JsonText, "sets": Unchanged}
READINGS: Final = tuple(_READERS)
_LABEL: Final = re.compile(r"[/+](?:x-)?(?:nd)?json\b", re.IGNORECASE)
_BLANK: Final = b" \t\r\n\0\x1e\xef\xbb\xbf\xfe\xff"  # may stand before JSON: marks too
_BLANKS: Final = 1024  # bytes: what begins with more of them is no JSON
_JSON: Final = (b"{", b"[", b'"')
_ESCAPE: Final = re.compile(rb"\\u[0-9A-Fa-f]{4}")
_SETS: Final = re.compile(rb"\x1b(?:\([BJ]|\.[AF])")
_LONGEST: Final = 6  # bytes, of these two
_BIG: Final = (codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_QUIET: Final = 64 << 10  # bytes without what a reading is for end it: in noise it begins by chance
_CONTROL: Final = bytes({*range(0x20)} - {*b"\0\t\n\r"})
_SAMPLE: Final = 4096  # bytes


class Said:
    """One text, in pieces. A reading begins with what it is for, and with as much before it as a match may span."""

    def __init__(self, media_type: str = "") -> None:
        """Take what the text is said to be; without a word of JSON its first byte tells."""
        self._before = b""  # the last REACH bytes
        self._seen = 0
        self._wide: codecs.IncrementalDecoder | None = None
        self._is_json = True if _LABEL.search(media_type) else None  # then any backslash escapes something
        self._readers: dict[str, JsonText | Unchanged] = {}
        self._quiet: dict[str, int] = {}

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes | None]]:
        """Yield how `data` was read, and what it says so, or None where a reading ended: the next is another text."""
        if self._wide is None and self._seen < LOOKED_AT and begins_wide(self._before + data):
            data, self._before = self._before + data, b""
            self._wide = _wide_decoder(data)
            yield from ((how, None) for how in self._readers)
            self._readers.clear()
        self._seen += len(data)
        if self._wide:
            data = self._wide.decode(data).replace("\0", "").encode("utf-8", "replace")
        if self._is_json is None:
            begins = data[:_BLANKS].lstrip(_BLANK)
            if begins or self._seen > _BLANKS:
                self._is_json = begins.startswith(_JSON)
        yield from self._read("json", data, self._escapes(data))
        yield from self._read("sets", data, self._changes(data))
        self._before = data[-REACH:] if len(data) >= REACH else (self._before + data)[-REACH:]

    def finish(self) -> Iterator[tuple[str, bytes]]:
        """Say that no more comes; yield what waited."""
        for how, reader in self._readers.items():
            yield how, reader.finish()

    def _read(self, how: str, data: bytes, place: int) -> Iterator[tuple[str, bytes | None]]:
        """Read `data`; place: of the first that the reading is for, or -1."""
        reader = self._readers.get(how)
        if reader is None:
            if place < 0:
                return
            reader = self._readers[how] = _READERS[how]()
            data = data[place - REACH :] if place >= REACH else self._before + data
        yield how, reader.feed(data)
        self._quiet[how] = 0 if place >= 0 else self._quiet[how] + len(data)
        if self._quiet[how] >= _QUIET:
            del self._readers[how]
            yield how, None

    def _escapes(self, data: bytes) -> int:
        if self._is_json and not _is_noise(data):
            return data.find(b"\\")
        if b"\\" in data or b"\\" in self._before[1 - _LONGEST :]:
            return self._place(_ESCAPE, data)
        return -1

    def _changes(self, data: bytes) -> int:
        if b"\x1b" in data or b"\x1b" in self._before[-2:]:
            return self._place(_SETS, data)
        return -1

    def _place(self, sign: re.Pattern[bytes], data: bytes) -> int:
        """Return where a sign begins that `data` brings; one that began before counts from there."""
        if sign.search(self._before[1 - _LONGEST :] + data[: _LONGEST - 1]):
            return 0
        found = sign.search(data)
        return found.start() if found else -1


def _wide_decoder(start: bytes) -> codecs.IncrementalDecoder:
    """Return what reads wide text, exactly: half of a character may be a backslash. UTF-32 is UTF-16 with zeros between."""
    zeros = [start[at:LOOKED_AT:2].count(0) for at in (0, 1)]
    is_big = start.startswith(_BIG) or (zeros[0] > zeros[1] and not start.startswith(codecs.BOM_UTF16_LE))
    return codecs.getincrementaldecoder("utf-16-be" if is_big else "utf-16-le")("replace")


def _is_noise(data: bytes) -> bool:
    """Tell whether a piece is no text: every tenth byte of noise is a control character."""
    sample = data[:_SAMPLE]
    return len(sample) >= REACH and (len(sample) - len(sample.translate(None, _CONTROL))) * 16 > len(sample)
