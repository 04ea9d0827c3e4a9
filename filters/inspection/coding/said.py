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
_FAR: Final = 64 << 10  # bytes behind a whole sign in which its first byte alone is one
_CONTROL: Final = bytes({*range(0x20)} - {*b"\0\t\n\r"})
_SAMPLE: Final = 4096  # bytes


class _Reading:
    """One way to read a text, stretch by stretch, and what is worth it."""

    def __init__(
        self,
        how: str,
        make: Callable[[], JsonText | Unchanged],
        begins: bytes,
        sign: bytes,
        longest: int,
        quick: Signs,
    ) -> None:
        """begins: the first byte of its sign, which has `longest` bytes at most; quick: finds one, or says that there is none."""
        self.how, self.begins = how, begins
        self._make, self._sign, self._beside, self._quick = make, re.compile(sign), longest - 1, quick
        self.reader: JsonText | Unchanged | None = None
        self.left = 0  # bytes to come that are read in any case: a sign was near
        self._far = 0  # bytes to come in which its first byte is a sign
        self._is_known = False  # then it is everywhere

    def first(self, before: bytes, data: bytes, *, is_known: bool) -> int:
        """Return where the first sign in a piece begins, 0 also for one that began before, or -1. is_known: its first byte is one."""
        self._is_known = is_known
        beside = before[-self._beside :]
        if self.begins in beside and self._sign.search(beside + data[: self._beside]):
            self._far = _FAR
            return 0
        return self.next(data, 0)

    def next(self, data: bytes, at: int) -> int:
        """Return where the next sign begins, or -1."""
        near = data.find(self.begins, at, len(data) if self._is_known else self._far)
        if near >= 0 or self._is_known:
            return near
        start = data.find(self.begins, max(at, self._far))
        if start < 0 or not (ends := self._quick.ends(data[start:])):
            return -1
        found = self._sign.search(data, start + max(0, ends[0] - self._beside - 1))
        if found is None:
            return -1
        self._far = found.start() + _FAR
        return found.start()

    def pass_on(self, size: int) -> None:
        """Say that a piece is over."""
        self._far = max(0, self._far - size)

    def begin(self, left: int) -> None:
        """Begin a stretch, of which so many bytes of the piece are near a sign."""
        self.reader, self.left = self._make(), left

    def end(self, data: bytes, start: int) -> int:
        """Return where the stretch ends that begins at `start`: some way behind its last sign."""
        at, end = start, self.left
        while True:
            far = len(data) if self._is_known else self._far
            while (last := data.rfind(self.begins, at, min(end + _NEAR, far))) >= 0:
                at, end = last + 1, max(end, last + _NEAR)
            if not self._is_known:
                self._far = max(far, self._last(data, start, min(end, len(data))) + _FAR)
            if self._is_known or self._far == far:
                return end

    def _last(self, data: bytes, low: int, high: int) -> int:
        """Return where the last whole sign between two places begins, or something far below; it is likely near the end."""
        size = 16 * self._beside
        while low < high:
            start, found = max(low, high - size), None
            for found in self._sign.finditer(data, start, high + self._beside):  # noqa: B007 - the last one counts
                pass
            if found:
                return found.start()
            high, size = start, 2 * size
        return -_FAR

    def give_up(self) -> Iterator[tuple[str, None]]:
        """End the stretch; what stands behind it is read as it is, and that is done in any case."""
        if self.reader:
            self.reader = None
            yield self.how, None


# noise has many of an escape's first two bytes, and text has few
_ESCAPES: Final = rb"\\u[0-9A-Fa-f]{4}", 6, Signs(rb"\\u[0-9A-Fa-f]")
_SETS: Final = rb"\x1b(?:\([BJ]|\.[AF])", 3, Signs(rb"\x1b(?:\([BJ]|\.[AF])")
READINGS: Final = ("json", "sets")


class Said:
    """One text, in pieces. It is read otherwise near the signs of that, and with as much before them as a match may span."""

    def __init__(self, media_type: str = "") -> None:
        """Take what the text is said to be; without a word of JSON its first byte tells."""
        self._before = b""  # the last REACH bytes
        self._odd = False  # whether an odd number of backslashes stands right before these
        self._seen = 0
        self._wide: codecs.IncrementalDecoder | None = None
        self._is_json = True if _LABEL.search(media_type) else None
        self._json = _Reading("json", JsonText, b"\\", *_ESCAPES)
        self._sets = _Reading("sets", Unchanged, b"\x1b", *_SETS)

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes | None]]:
        """Yield how `data` was read, and what it says so, or None where a reading ended: the next is another text."""
        if self._wide is None and self._seen < LOOKED_AT and begins_wide(self._before + data):
            data, self._before = self._before + data, b""
            self._wide = _wide_decoder(data)
            yield from (*self._json.give_up(), *self._sets.give_up())
        self._seen += len(data)
        if self._wide:
            data = self._wide.decode(data).replace("\0", "").encode("utf-8", "replace")
        if self._is_json is None:
            begins = data[:_BLANKS].lstrip(_BLANK)
            if begins or self._seen > _BLANKS:
                self._is_json = begins.startswith(_JSON)
        # in JSON any backslash escapes something
        yield from self._read(self._json, data, is_known=self._is_json is True and not _is_noise(data))
        yield from self._read(self._sets, data, is_known=False)
        self._keep(data)

    def finish(self) -> Iterator[tuple[str, bytes]]:
        """Say that no more comes; yield what waited."""
        for reading in (self._json, self._sets):
            if reading.reader:
                yield reading.how, reading.reader.finish()

    def _read(self, reading: _Reading, data: bytes, *, is_known: bool) -> Iterator[tuple[str, bytes | None]]:
        first, start = reading.first(self._before, data, is_known=is_known), 0
        if reading.reader and first == 0:
            reading.left = max(reading.left, _NEAR)
        while reading.reader or first >= 0:
            if reading.reader is None:
                start = first - REACH + self._is_escaped(data, first - REACH)
                reading.begin(first + _NEAR)
            assert reading.reader  # noqa: S101 - begun just now
            stop = reading.end(data, max(start, 0))
            text = self._before[start:] + data[:stop] if start < 0 else data[start:stop]
            yield reading.how, reading.reader.feed(text)
            if stop > len(data):
                reading.left = stop - len(data)
                break
            yield from reading.give_up()
            first = reading.next(data, stop)
        reading.pass_on(len(data))

    def _is_escaped(self, data: bytes, place: int) -> bool:
        """Tell whether an odd number of backslashes stands right before a place; before the piece it is negative."""
        if place > 0 and data[place - 1 : place] != b"\\":
            return False
        ahead = data[:place] if place > 0 else self._before[: len(self._before) + place]
        run = len(ahead) - len(ahead.rstrip(b"\\"))
        if run < len(ahead):
            return run % 2 == 1
        return (run % 2 == 1) != (self._is_escaped(data, 0) if place > 0 else self._odd)

    def _keep(self, data: bytes) -> None:
        """Keep the last bytes: a match, or an escape, may have begun in them."""
        more = len(self._before) + len(data) - REACH
        if more > 0:
            self._odd = self._is_escaped(data, more - len(self._before))
        self._before = data[-REACH:] if len(data) >= REACH else (self._before + data)[-REACH:]


def _wide_decoder(start: bytes) -> codecs.IncrementalDecoder:
    """Return what reads wide text, exactly: half of a character may be a backslash. UTF-32 is UTF-16 with zeros between."""
    zeros = [start[at:LOOKED_AT:2].count(0) for at in (0, 1)]
    is_big = start.startswith(_BIG) or (zeros[0] > zeros[1] and not start.startswith(codecs.BOM_UTF16_LE))
    return codecs.getincrementaldecoder("utf-16-be" if is_big else "utf-16-le")("replace")


def _is_noise(data: bytes) -> bool:
    """Tell whether a piece is no text: every tenth byte of noise is a control character."""
    sample = data[:_SAMPLE]
    return len(sample) >= REACH and (len(sample) - len(sample.translate(None, _CONTROL))) * 16 > len(sample)
