"""Open archives with libarchive (the only user of it), never trusting what they say about themselves.

libarchive is told which format to read: by itself it takes text that begins with `#mtree` for an archive, and a zip with an
image of a CD in its middle for that. What can be opened in several ways is opened in each of them.
"""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import libarchive
from libarchive.exception import ArchiveError

from filters.inspection.finding import LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.objects.archive_kinds import COMPRESSED, kinds

_LOCAL = b"PK\x03\x04"
_STORED: Final = frozenset({"tar", "cpio", "ar", "iso9660"})  # what comes out was there already


@dataclass(slots=True)
class Budget:
    """What one object, with everything inside, may still unpack to."""

    limits: Limits
    members: int = 0
    unpacked: int = 0

    def member(self) -> None:
        """Count a member; raises LimitHit."""
        self.members += 1
        if self.members > self.limits.members:
            raise LimitHit("members", self.limits.members, " files in one object")

    def bytes(self, count: int) -> None:
        """Count unpacked bytes; raises LimitHit."""
        self.unpacked += count
        if self.unpacked > self.limits.unpacked:
            raise LimitHit("unpacked", self.limits.unpacked, " bytes unpacked from one object")


def members(data: bytes, media_type: str, budget: Budget) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each file in an archive; raises Refusal for what can't be read whole.

    What a compressed file holds has no name.
    """
    found = kinds(data, media_type)
    held: list[bytes] = []  # members that stand in the data as they are
    for kind, start in found:
        inside = data[start:]
        if any(_is_member(inside, kind, one) for one in held):
            continue
        try:
            if kind == "zip":
                check_zip(data)
            for name, content in (
                _unpack(data, kind, budget) if kind in COMPRESSED else _read(inside, kind, budget)
            ):
                yield name, content
                if kind in _STORED and len(found) > 1:
                    held.append(content)
        except ArchiveError as error:
            raise Refusal("archive-broken", f"{media_type} that can't be read: {_words(error)}") from error


def _is_member(inside: bytes, kind: str, content: bytes) -> bool:
    """Tell whether an archive that begins or ends somewhere in another one is simply in it."""
    mark = inside[:32] if kind == "7zip" else inside.rstrip(b"\0")
    return kind in {"7zip", "zip"} and mark in content


def _unpack(data: bytes, kind: str, budget: Budget) -> Iterator[tuple[str, bytes]]:
    budget.member()
    try:
        with libarchive.memory_reader(data, format_name="raw", filter_name=kind) as archive:
            for entry in archive:
                yield "", _content(entry, len(data), budget, 0)
    except ArchiveError:
        with libarchive.memory_reader(data, format_name="empty", filter_name=kind):
            return  # nothing is in it, which has no format


def _read(data: bytes, kind: str, budget: Budget) -> Iterator[tuple[str, bytes]]:
    free = len(data) if kind in _STORED else 0
    packed = "none" if kind != "all" else "all"
    with libarchive.memory_reader(data, format_name=kind, filter_name=packed) as archive:
        for entry in archive:
            budget.member()
            # what is no file may have content too
            content = _content(entry, len(data), budget, free)
            free = max(0, free - len(content))
            if content or entry.isfile:
                yield str(entry.pathname or "content"), content


def _content(entry: "libarchive.ArchiveEntry", packed: int, budget: Budget, free: int) -> bytes:
    content = bytearray()
    for block in entry.get_blocks():
        budget.bytes(max(0, len(block) - max(0, free - len(content))))
        content += block
        if len(content) > budget.limits.ratio_from and len(content) > budget.limits.ratio * packed:
            raise LimitHit("ratio", budget.limits.ratio, " bytes unpacked per byte")
    return bytes(content)


def check_zip(data: bytes) -> None:
    """Refuse a zip that different programs unpack differently: entries outside its directory, or two names.

    Raises Refusal. Source: APPNOTE.TXT 6.3.10 sections 4.3.6 to 4.3.16.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos, start = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, UnicodeDecodeError) as error:
        raise Refusal("archive-broken", f"a zip without a readable directory: {error}") from error
    if any(one.filename.endswith("/") and one.file_size for one in infos):
        raise Refusal(
            "archive-ambiguous", "the zip holds a directory with content: programs read it or don't"
        )
    if any(one.flag_bits & 1 for one in infos):
        raise Refusal("archive-encrypted", "the zip holds encrypted files: what they are can't be judged")
    end = 0 if data[:4] == _LOCAL else min((one.header_offset for one in infos), default=0)
    for one in sorted(infos, key=lambda info: info.header_offset):
        _check_gap(data[end : one.header_offset])
        name_length, extra_length = (
            int.from_bytes(data[one.header_offset + at : one.header_offset + at + 2], "little")
            for at in (26, 28)
        )
        name = data[one.header_offset + 30 : one.header_offset + 30 + name_length]
        if data[one.header_offset : one.header_offset + 4] != _LOCAL or name not in _encoded(one):
            raise Refusal(
                "archive-ambiguous",
                f"the zip's directory and its entry disagree about {one.orig_filename[:60]!r}",
            )
        end = max(end, one.header_offset + 30 + name_length + extra_length + one.compress_size)
    _check_gap(data[end:start])


def _encoded(info: zipfile.ZipInfo) -> set[bytes]:
    forms = set()
    for encoding in ("utf-8", "cp437"):
        try:
            forms.add(info.orig_filename.encode(encoding))
        except UnicodeEncodeError:
            continue
    return forms


def _check_gap(gap: bytes) -> None:
    if _LOCAL in gap:
        raise Refusal("archive-ambiguous", "the zip holds a file that its directory does not name")


def _words(error: ArchiveError) -> str:
    return str(error).split(" (errno")[0][:120]
