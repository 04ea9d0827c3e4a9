"""Keep an object while it comes in: small ones in memory, larger ones in a file without a name."""

import re
import tempfile
from typing import IO

from filters.inspection.finding import LimitHit
from filters.inspection.limits import Limits

IN_MEMORY = 64 << 10
_PACKED = (
    b"PK",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"7z\xbc\xaf",
    b"Rar!",
    b"\x28\xb5\x2f\xfd",
    b"!<arch>",
    b"MSCF",
)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


class ObjectStore:
    """The object under way in one direction.

    A binary object lags: its latest piece stays here until the next one comes, so that an object that is found
    bad when it is whole was never delivered whole. Text (event streams, logs) does not lag: its readers wait for
    each line, and patterns in it are found on the way.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._file: IO[bytes] | None = None
        self._size = 0
        self.name = self.media_type = ""
        self._packed = False
        self.is_open = self.wanted = self.lagging = False
        self.safe = 0  # while it lags: how far the direction may go on
        self.piece_start = 0  # where the latest piece of the direction begins

    def begin(self, name: str, media_type: str, *, wanted: bool) -> None:
        """Begin an object; its bytes are kept only if `wanted`."""
        self.close()
        self.name, self.media_type, self.wanted, self.is_open, self._size = name, media_type, wanted, True, 0
        self.lagging, self._packed = False, is_container(media_type)

    def new_piece(self, start: int) -> None:
        """Say that more bytes of the direction come, and where they begin."""
        self.piece_start = start

    def add(self, data: bytes) -> None:
        """Keep more; raises LimitHit."""
        if not self.wanted:
            return
        if self._file is None:
            self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed with the object
        self._size += len(data)
        if self._size > self._limits.object:
            raise LimitHit("object", self._limits.object, " bytes in one object")
        self._file.write(data)
        if self._size == len(data):
            self._packed = self._packed or data.startswith(_PACKED)
        if self.lagging or self._packed or is_binary(data):
            self.lagging, self.safe = True, self.piece_start

    @property
    def may_be_judged_early(self) -> bool:
        """Tell whether the object, as far as it came, says something already; packed ones don't."""
        return self.is_open and self.wanted and self.lagging and not self._packed

    @property
    def size(self) -> int:
        """Return how many bytes are kept."""
        return 0 if self._file is None else self._size

    def so_far(self) -> bytes:
        """Return what came of the object."""
        if self._file is None:
            return b""
        self._file.seek(0)
        data = self._file.read()
        self._file.seek(0, 2)
        return data

    def end(self) -> None:
        """Forget the object."""
        self.close()
        self.is_open = self.lagging = False

    def close(self) -> None:
        """Free its memory or file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def is_container(media_type: str) -> bool:
    """Tell whether a declared type means parts inside, coded each in its own way."""
    return media_type.lower().startswith(("multipart/", "message/rfc822"))


def is_binary(data: bytes) -> bool:
    """Tell whether bytes are anything but plain text."""
    return _CONTROL.search(data, 0, 512) is not None
