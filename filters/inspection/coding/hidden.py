"""Notice a zip in bytes that are passed on coded: who stores them as they are opens it, whatever they decode to."""

from typing import Final

_END: Final = b"PK\x05\x06"  # APPNOTE 4.3.16
_END64: Final = b"PK\x06\x07"
_FILE, _ENTRY = b"PK\x03\x04", b"PK\x01\x02"
_FIXED: Final = 22  # bytes of the end without its comment
_KEPT: Final = 0xFFFF + _FIXED + 20  # the longest comment, and what stands before the end in a zip64


class Tail:
    """The last bytes of a stream. Extra fields of gzip and metadata of brotli hold what decoding never shows."""

    def __init__(self) -> None:
        self._kept, self._length = b"", 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._length += len(data)
        self._kept = data[-_KEPT:] if len(data) >= _KEPT else (self._kept + data)[-_KEPT:]

    def hides_zip(self, shown: "Tail") -> bool:
        """Tell whether programs find a zip's directory here that `shown`, what this decodes to, does not end with.

        What a coder can't make smaller it passes on as it is: then it is shown as well, and judged as what it is.
        """
        last = shown._zip_at(shown._kept.rfind(_END))
        at = self._kept.rfind(_END)
        while at >= 0:
            found = self._zip_at(at)
            if found and (self._counts_from_here(at) or not last.endswith(found)):
                return True
            at = self._kept.rfind(_END, 0, at)
        return False

    def _zip_at(self, at: int) -> bytes:
        """Return what is kept of the zip whose directory ends here: all of it where it stands in one piece, else its directory."""
        end = at + _FIXED
        if at < 0 or end > len(self._kept):
            return b""
        if self._kept[max(0, at - 20) : at].startswith(_END64):
            return self._kept[at - 20 : end]
        size, start = self._numbers(at)
        first, directory = at - size - start, self._kept[max(0, at - size) : end]
        if not 0 < size <= self._before(at):
            return b""
        if first >= 0 and self._kept.startswith(_FILE, first):
            return self._kept[first:end]
        return directory if size > at or directory.startswith(_ENTRY) or self._counts_from_here(at) else b""

    def _counts_from_here(self, at: int) -> bool:
        """Tell whether a zip's directory is where it says, counted from this stream's beginning: no coder moves it there."""
        size, start = self._numbers(at)
        place = start - (self._length - len(self._kept))
        return size > 0 and (
            self._before(at) == size + start or (place >= 0 and self._kept.startswith(_ENTRY, place))
        )

    def _numbers(self, at: int) -> tuple[int, int]:
        """Return the directory's size and place."""
        size, start = (int.from_bytes(self._kept[at + one : at + one + 4], "little") for one in (12, 16))
        return size, start

    def _before(self, at: int) -> int:
        return self._length - len(self._kept) + at
