"""Open archives with libarchive (the only user of it), never trusting what they say about themselves."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import libarchive
from libarchive.exception import ArchiveError

from filters.inspection.finding import LimitHit, Refusal
from filters.inspection.limits import Limits

_LOCAL = b"PK\x03\x04"
_COMPRESSED = ("gzip", "bzip2", "xz", "lzma", "zstd", "lzip", "compress")


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
    """Yield (name, content) of each file in an archive; raises Refusal for what can't be read whole."""
    if data[:4] == _LOCAL:
        check_zip(data)
    single = any(media_type.endswith(one) or media_type.endswith(f"x-{one}") for one in _COMPRESSED)
    try:
        yield from _read(data, "all", budget)
    except ArchiveError as error:
        if not single:
            raise Refusal("archive-broken", f"{media_type} that can't be read: {_words(error)}") from error
        try:
            yield from _read(data, "raw", budget)
        except ArchiveError as broken:
            raise Refusal("archive-broken", f"{media_type} that can't be read: {_words(broken)}") from broken


def _read(data: bytes, form: str, budget: Budget) -> Iterator[tuple[str, bytes]]:
    with libarchive.memory_reader(data, format_name=form) as archive:
        for entry in archive:
            budget.member()
            if not entry.isfile and form != "raw":
                continue
            content = bytearray()
            for block in entry.get_blocks():
                budget.bytes(len(block))
                content += block
                if len(content) > budget.limits.ratio_from and len(content) > budget.limits.ratio * len(data):
                    raise LimitHit("ratio", budget.limits.ratio, " bytes unpacked per byte")
            yield str(entry.pathname or "content"), bytes(content)


def check_zip(data: bytes) -> None:
    """Refuse a zip that different programs unpack differently: entries outside its directory, or two names.

    Raises Refusal. Source: APPNOTE.TXT 6.3.10 sections 4.3.6 to 4.3.16.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos, start = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, UnicodeDecodeError) as error:
        raise Refusal("archive-broken", f"a zip without a readable directory: {error}") from error
    if any(one.flag_bits & 1 for one in infos):
        raise Refusal("archive-encrypted", "the zip holds encrypted files: what they are can't be judged")
    end = 0
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
