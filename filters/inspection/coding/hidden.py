"""Notice a zip in bytes that are passed on coded: who stores them as they are opens it, whatever they decode to."""

from collections.abc import Iterator
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
        """Tell whether programs find a zip's directory here, its end and as many bytes before it as it says, that is not in `shown`.

        What a coder can't make smaller it passes on as it is: then it is shown as well.
        """
        return any(piece not in shown._kept for piece in self._zips())

    def _zips(self) -> Iterator[bytes]:
        """Yield what is kept of each zip that ends here: all of it where it stands in one piece, else its directory."""
        at = self._kept.rfind(_END)
        while at >= 0:
            size, start = (int.from_bytes(self._kept[at + one : at + one + 4], "little") for one in (12, 16))
            before, end = self._length - len(self._kept) + at, at + _FIXED
            if self._kept[max(0, at - 20) : at].startswith(_END64):
                yield self._kept[at - 20 : end]
            elif end <= len(self._kept) and 0 < size <= before:
                directory = self._kept[max(0, at - size) : end]
                first = at - size - start
                if first >= 0 and self._kept.startswith(_FILE, first):
                    yield self._kept[first:end]
                elif size > at or directory.startswith(_ENTRY):
                    yield directory
            at = self._kept.rfind(_END, 0, at)
