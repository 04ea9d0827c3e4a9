"""Notice a zip in bytes that are passed on coded: who stores them as they are opens it, whatever they decode to."""

from typing import Final

_END: Final = b"PK\x05\x06"  # APPNOTE 4.3.16
_END64: Final = b"PK\x06\x07"
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

    def ends_as_zip(self) -> bool:
        """Tell whether programs find a zip's directory here: its end, and as many bytes before it as it says."""
        at = self._kept.rfind(_END)
        while at >= 0:
            before = self._length - len(self._kept) + at
            size = int.from_bytes(self._kept[at + 12 : at + 16], "little")
            if len(self._kept) - at >= _FIXED and (
                0 < size <= before or self._kept[max(0, at - 20) : at].startswith(_END64)
            ):
                return True
            at = self._kept.rfind(_END, 0, at)
        return False
