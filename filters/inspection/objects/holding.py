"""Keep an object while it comes in: small ones in memory, larger ones in a file without a name."""

import tempfile
from bisect import bisect_right
from typing import IO, Final

from filters.inspection.finding import LimitHit
from filters.inspection.limits import Limits
from filters.inspection.matching.database import Signs
from filters.inspection.objects.archive_kinds import begins_as_archive
from filters.inspection.objects.as_sent import AsSent
from filters.inspection.objects.mail_text import is_message

IN_MEMORY = 64 << 10
_HEAD: Final = 36880  # bytes: an image of a disc has its sign here at the latest
_LOOKS: Final = (
    *range(2, 33),
    64,
    128,
    512,
    1024,
    34824,
    _HEAD,
)  # how long the beginning is when it is looked at
# programs look for these anywhere
_ANYWHERE: Final = Signs(rb"PK(?:\x01\x02|\x03\x04|\x05\x06)", rb"7z\xbc\xaf\x27\x1c", rb"Rar!\x1a\x07")
# what programs, documents and pictures begin with; archives are told by archive_kinds.py
_FILES: Final = (
    b"MZ", b"\x7fELF", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!", b"<?php",
    b"%PDF", b"%!PS", b"\xd0\xcf\x11\xe0", b"{\\rtf", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"RIFF", b"OggS", b"ID3", b"wOFF", b"wOF2",
)  # fmt: skip
_LEAST: Final = 16  # bytes: no archive is shorter
_CODED_HEAD: Final = 64  # bytes in which a coding may say something of itself, and nothing of its content
_CONTROL: Final = Signs(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # none of \t, \n, \v, \f, \r and escape


class _Kept:
    """Bytes that came, and what they begin to be: few stay in memory, many go into a file."""

    def __init__(self) -> None:
        # a temporary file for each small object would cost more than all that reads it
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0
        self.tail = b""

    def add(self, data: bytes, most: int) -> None:
        """Keep more; raises LimitHit."""
        self.size += len(data)
        if self.size > most:
            raise LimitHit("object", most, " bytes in one object")
        if self._file is None and self.size > IN_MEMORY:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the object
            self._file.write(self._memory)
            self._memory = bytearray()
        if self._file is None:
            self._memory += data
        else:
            self._file.write(data)

    def read(self) -> bytes:
        """Return all of it."""
        if self._file is None:
            return bytes(self._memory)
        self._file.seek(0)
        data = self._file.read()
        self._file.seek(0, 2)
        return data

    def holds_sign(self, data: bytes) -> bool:
        """Tell whether `data`, which comes next, brings a sign that programs look for anywhere."""
        found = bool(_ANYWHERE.ends(data) or _ANYWHERE.ends(self.tail + data[:8]))
        self.tail = (self.tail + data[-8:])[-8:]
        return found

    def close(self) -> None:
        """Free memory or file."""
        if not self.size:
            return
        if self._file is not None:
            self._file.close()
        self._memory, self._file, self.size, self.tail = bytearray(), None, 0, b""


class ObjectStore:
    """The object under way in one direction.

    A binary object lags: its latest piece stays here until the next one comes, so that an object that is found
    bad when it is whole was never delivered whole. Text (event streams, logs) does not lag: its readers wait for
    each line, and patterns in it are found on the way.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._content = _Kept()
        self._coded: list[tuple[str, _Kept]] = []  # what it was decoded from, the outermost coding first
        self.name = self.media_type = ""
        self._packed = self._only_files = False
        self._lags = False  # its content is what lags, not only what it is decoded from
        self._head = b""
        self._looked = 0  # how long the beginning was when it was last looked at
        self.is_file = False  # of a message: it begins like a file; anything else is one
        self.is_open = self.wanted = self.lagging = False
        self.safe = 0  # while it lags: how far the direction may go on
        self.piece_start = 0  # where the latest piece of the direction begins

    def begin(self, name: str, media_type: str, *, wanted: bool, only_files: bool = False) -> None:
        """Begin an object; its bytes are kept only if `wanted`. only_files: it lags only if it looks like a file."""
        if self.is_open:
            self.close()
        self.name, self.media_type, self.wanted, self.is_open = name, media_type, wanted, True
        self._packed = self._lags = is_container(media_type)
        self.lagging, self._only_files = False, only_files
        self._head, self._looked, self.is_file = b"", 0, not only_files

    def new_piece(self, start: int) -> None:
        """Say that more bytes of the direction come, and where they begin."""
        self.piece_start = start

    def look(self, data: bytes) -> bytes:
        """Look at what comes next, before it is kept. Return what is new of a file: once a message begins like one, all of it."""
        if self.is_file and (self._packed or not self.wanted):
            return data
        before, was_file = self._head, self.is_file
        begins = self._begins_packed(data)
        self._packed = self._packed or begins
        self.is_file = was_file or begins or self._head.startswith(_FILES)
        if was_file:
            return data
        return before + data if self.is_file else b""

    def add(self, data: bytes) -> None:
        """Keep more, which was looked at; raises LimitHit."""
        if not self.wanted:
            return
        self._content.add(data, self._limits.object)
        self._packed = self._packed or self._content.holds_sign(data)
        self._lags = self._lags or self._packed or (self.is_file if self._only_files else is_binary(data))
        if self.lagging or self._lags:
            self.lagging, self.safe = True, self.piece_start

    def add_coded(self, level: int, coding: str, data: bytes, *, shown: bool) -> None:
        """Keep more of what the object is decoded from; raises LimitHit. What shows nothing lags like binary.

        Behind the last of a binary content comes the coding's end, which shows nothing either: it does not set that free.
        """
        if not self.wanted:
            return
        if level == len(self._coded):
            self._coded.append((coding, _Kept()))
        kept = self._coded[level][1]
        kept.add(data, self._limits.object)
        self._packed = self._packed or kept.holds_sign(data)
        if self.lagging or self._packed or (not shown and kept.size > _CODED_HEAD):
            if shown or not self._lags:
                self.safe = self.piece_start
            self.lagging = True

    def _begins_packed(self, data: bytes) -> bool:
        """Tell whether the object begins as an archive, as far as it came: looked at now and then, for it may come byte by byte."""
        before = len(self._head)
        self._head += data[: _HEAD - before]
        if self._only_files and len(self._head) < _LEAST:
            return False
        if bisect_right(_LOOKS, before) == bisect_right(_LOOKS, len(self._head)):
            return False
        self._looked = len(self._head)
        return begins_as_archive(self._head)

    @property
    def may_be_judged_early(self) -> bool:
        """Tell whether the object, as far as it came, says something already; packed ones don't."""
        early = self.is_open and self.wanted and self.lagging and not self._packed
        return early and not begins_as_archive(self._head)

    @property
    def is_worth_judging(self) -> bool:
        """Tell whether the object, which is whole, is to be judged: of messages only what looks like a file."""
        if not self._only_files or self.lagging:
            return True
        return len(self._head) >= max(_LEAST, self._looked + 1) and begins_as_archive(self._head)

    @property
    def size(self) -> int:
        """Return how many bytes are kept."""
        return self._content.size + sum(kept.size for _, kept in self._coded)

    def so_far(self) -> bytes:
        """Return what came of the object."""
        return self._content.read()

    def as_sent(self) -> tuple[AsSent, ...]:
        """Return what came of the bytes that it is decoded from."""
        return tuple(AsSent(coding, kept.read()) for coding, kept in self._coded)

    def end(self) -> None:
        """Forget the object."""
        self.close()
        self.is_open = self.lagging = False

    def close(self) -> None:
        """Free its memory or files."""
        for kept in (self._content, *(one for _, one in self._coded)):
            kept.close()
        self._coded.clear()


def is_container(media_type: str) -> bool:
    """Tell whether a declared type means parts inside, coded each in its own way."""
    return is_message(media_type) or media_type.lower().startswith("multipart/")


def is_endless(media_type: str) -> bool:
    """Tell whether a declared type means parts that replace one another, as long as anybody looks: cameras send them."""
    return media_type.lower().startswith("multipart/x-mixed-replace")


def is_binary(data: bytes) -> bool:
    """Tell whether bytes are anything but plain text."""
    return bool(_CONTROL.ends(data))
