"""What a text says beside its bytes, whatever anybody calls it: JSON's escapes, and those of ISO-2022 that change nothing."""

import codecs
import re
from collections.abc import Callable, Iterator
from typing import Final

from filters.inspection.coding.iso_2022 import Unchanged
from filters.inspection.coding.json_text import JsonText
from filters.inspection.coding.wide import LOOKED_AT, begins_wide
from filters.inspection.matching.database import Signs
from filters.inspection.patterns.pattern import REACH

_LABEL: Final = re.compile(r"[/+](?:x-)?(?:nd)?json\b", re.IGNORECASE)
_BLANK: Final = b" \t\r\n\0\x1e\xef\xbb\xbf\xfe\xff"  # may stand before JSON: marks too
_BLANKS: Final = 1024  # bytes: what begins with more of them is no JSON
_JSON: Final = (b"{", b"[", b'"')
_BIG: Final = (codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_NEAR: Final = 4 * REACH  # bytes: signs nearer to each other than that are read in one stretch
_CONTROL: Final = bytes({*range(0x20)} - {*b"\0\t\n\r"})
_SAMPLE: Final = 4096  # bytes


class _Sign:
    """What a reading is for."""

    def __init__(self, begins: bytes, whole: bytes, longest: int, anywhere: bytes) -> None:
        """begins: its first bytes; longest: how many it has at most; anywhere: what is quickly found where there is one."""
        self._begins, self._whole, self._longest = begins, re.compile(whole), longest
        self._anywhere = Signs(anywhere)

    def find(self, data: bytes, start: int = 0) -> int:
        """Return where the first one from `start` on begins, or -1."""
        first = data.find(self._begins[:1], start)
        if first < 0 or self._longest == 1:
            return first
        if not (ends := self._anywhere.ends(data[first:])):
            return -1
        found = self._whole.search(data, first + max(0, ends[0] - self._longest))
        return found.start() if found else -1

    def find_last(self, data: bytes, start: int, stop: int) -> int:
        """Return where the last one between two places begins, or -1; there may be one for every few bytes."""
        while (last := data.rfind(self._begins, start, stop)) >= 0 and not self._whole.match(data, last):
            stop = last
        return last

    def stands_between(self, before: bytes, data: bytes) -> bool:
        """Tell whether one begins in what came before and ends in `data`."""
        beside = self._longest - 1
        start = before[-beside:] if beside else b""
        return self._begins[:1] in start and self._whole.search(start + data[:beside]) is not None


_BACKSLASH: Final = _Sign(b"\\", rb"\\", 1, rb"\\")  # in JSON any escapes something
_ESCAPE: Final = _Sign(b"\\u", rb"\\u[0-9A-Fa-f]{4}", 6, rb"\\u")
_SET: Final = _Sign(b"\x1b", rb"\x1b(?:\([BJ]|\.[AF])", 3, rb"\x1b(?:\([BJ]|\.[AF])")
READINGS: Final = ("json", "sets")


class Said:
    """One text, in pieces. It is read otherwise near the signs of that, and with as much before them as a match may span."""

    def __init__(self, media_type: str = "") -> None:
        """Take what the text is said to be; without a word of JSON its first byte tells."""
        self._before = b""  # the last REACH bytes
        self._seen = 0
        self._wide: codecs.IncrementalDecoder | None = None
        self._is_json = True if _LABEL.search(media_type) else None
        self._readings = [
            _Reading(how, make) for how, make in zip(READINGS, (JsonText, Unchanged), strict=True)
        ]

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes | None]]:
        """Yield how `data` was read, and what it says so, or None where a reading ended: the next is another text."""
        if self._wide is None and self._seen < LOOKED_AT and begins_wide(self._before + data):
            data, self._before = self._before + data, b""
            self._wide = _wide_decoder(data)
            for reading in self._readings:
                yield from reading.give_up()
        self._seen += len(data)
        if self._wide:
            data = self._wide.decode(data).replace("\0", "").encode("utf-8", "replace")
        if self._is_json is None:
            begins = data[:_BLANKS].lstrip(_BLANK)
            if begins or self._seen > _BLANKS:
                self._is_json = begins.startswith(_JSON)
        escapes = _BACKSLASH if self._is_json and not _is_noise(data) else _ESCAPE
        for reading, sign in zip(self._readings, (escapes, _SET), strict=True):
            first = 0 if sign.stands_between(self._before, data) else sign.find(data)
            yield from reading.read(self._before, data, sign, first)
        self._before = data[-REACH:] if len(data) >= REACH else (self._before + data)[-REACH:]

    def finish(self) -> Iterator[tuple[str, bytes]]:
        """Say that no more comes; yield what waited."""
        for reading in self._readings:
            yield from reading.finish()


class _Reading:
    """One way to read a text, stretch by stretch."""

    def __init__(self, how: str, make: Callable[[], JsonText | Unchanged]) -> None:
        self._how, self._make = how, make
        self._reader: JsonText | Unchanged | None = None
        self._left = 0  # bytes that are read in any case: a sign was near

    def read(self, before: bytes, data: bytes, sign: _Sign, first: int) -> Iterator[tuple[str, bytes | None]]:
        """Read `data` where it is near a sign; first: where the first one begins, or -1."""
        start = 0
        if self._reader is None:
            start = first - REACH
        elif first == 0:
            self._left = max(self._left, _NEAR)
        while self._reader or first >= 0:
            if self._reader is None:
                self._reader, self._left = self._make(), first + _NEAR
            stop = _end(data, sign, max(start, 0), self._left)
            text = before[start:] + data[:stop] if start < 0 else data[start:stop]
            yield self._how, self._reader.feed(text)
            if stop > len(data):
                self._left = stop - len(data)
                return
            yield from self.give_up()
            first = sign.find(data, stop)
            start = first - REACH

    def give_up(self) -> Iterator[tuple[str, None]]:
        """End the stretch; what stands behind it is read as it is, and that is done in any case."""
        if self._reader:
            self._reader = None
            yield self._how, None

    def finish(self) -> Iterator[tuple[str, bytes]]:
        """See Said."""
        if self._reader:
            yield self._how, self._reader.finish()


def _end(data: bytes, sign: _Sign, at: int, end: int) -> int:
    """Return where a stretch ends that goes to `end` at least: some way behind its last sign."""
    while (last := sign.find_last(data, at, end + _NEAR)) >= 0:
        at, end = last + 1, max(end, last + _NEAR)
    return end


def _wide_decoder(start: bytes) -> codecs.IncrementalDecoder:
    """Return what reads wide text, exactly: half of a character may be a backslash. UTF-32 is UTF-16 with zeros between."""
    zeros = [start[at:LOOKED_AT:2].count(0) for at in (0, 1)]
    is_big = start.startswith(_BIG) or (zeros[0] > zeros[1] and not start.startswith(codecs.BOM_UTF16_LE))
    return codecs.getincrementaldecoder("utf-16-be" if is_big else "utf-16-le")("replace")


def _is_noise(data: bytes) -> bool:
    """Tell whether a piece is no text: every tenth byte of noise is a control character."""
    sample = data[:_SAMPLE]
    return len(sample) >= REACH and (len(sample) - len(sample.translate(None, _CONTROL))) * 16 > len(sample)
