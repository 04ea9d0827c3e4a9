"""Open archives with libarchive (the only user of it), never trusting what they say about themselves.

libarchive is told which format to read: by itself it takes text that begins with `#mtree` for an archive, and a zip with an
image of a CD in its middle for that. What can be opened in several ways is opened in each of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import libarchive
from libarchive.exception import ArchiveError

from filters.inspection.finding import LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.objects.archive_kinds import COMPRESSED, PARTS, kinds, zip_end
from filters.inspection.objects.lzma_file import LzmaBlocks
from filters.inspection.objects.tar_headers import BLOCK, check_tar, is_tar
from filters.inspection.objects.zip_directory import check_content, check_zip, link_target
from filters.inspection.objects.zip_signs import SHORT, marks, parts

_STORED: Final = frozenset({"tar", "cpio", "ar", "iso9660"})  # what comes out was there already
_ZIPS: Final = frozenset({"zip", PARTS})
_LZIP_END: Final = 20  # bytes behind what lzip packed
_COMMON_LZMA: Final = b"\x5d"


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


def members(
    data: bytes, media_type: str, budget: Budget, shown: Counter[bytes] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each file in an archive; raises Refusal for what can't be read whole.

    What a compressed file holds has no name. shown: marks of zips in what is judged besides.
    """
    found = kinds(data, media_type)
    shown = Counter(shown)
    held: list[bytes] = []  # members that stand in the data as they are
    for kind, start in sorted(found, key=lambda one: one[0] in _ZIPS):  # the others may hold zips
        inside = data[start:]
        if any(_is_member(inside, kind, one) for one in held):
            continue
        try:
            for name, content in _open(data, kind, start, budget, shown):
                yield name, content
                if len(found) > 1 and kind not in _ZIPS:
                    shown += marks(content, SHORT) if kind in COMPRESSED else marks(content)
                    held += [content] if kind in _STORED else []
        except ArchiveError as error:
            raise Refusal("archive-broken", f"{media_type} that can't be read: {_words(error)}") from error


def _is_member(inside: bytes, kind: str, content: bytes) -> bool:
    """Tell whether an archive that begins or ends somewhere in another one is simply in it."""
    mark = inside[: zip_end(inside) + 20] if kind == "zip" else inside[:32]
    return kind in {"7zip", "zip", "rar", "rar5"} and mark in content


def _open(
    data: bytes, kind: str, start: int, budget: Budget, shown: Counter[bytes]
) -> Iterator[tuple[str, bytes]]:
    if kind == "zip":
        return _read_zip(data, start, budget, shown)
    if kind == PARTS:
        return _read_parts(data, budget, shown)
    if kind == "lzma":
        return _unlzma(data, budget)
    inside = data[start:]
    return _unpack(inside, kind, budget) if kind in COMPRESSED else _read(inside, kind, budget)


def _unpack(data: bytes, kind: str, budget: Budget) -> Iterator[tuple[str, bytes]]:
    budget.member()
    try:
        with libarchive.memory_reader(data, format_name="raw", filter_name=kind) as archive:
            for entry in archive:
                content = _content(entry.get_blocks(), len(data), budget, 0)
                # libarchive hands on what it can't unpack, and some files unpack to themselves
                if content == data:
                    raise Refusal("archive-broken", f"{kind} that nothing is unpacked from")
                yield "", content
            used = archive.bytes_read
    except ArchiveError:
        with libarchive.memory_reader(data, format_name="empty", filter_name=kind) as archive:
            for _ in archive:
                pass  # nothing is in it, which has no format
            used = archive.bytes_read + (_LZIP_END if kind == "lzip" else 0)
    if data[used:].strip(b"\0"):
        raise Refusal(
            "archive-ambiguous",
            f"more stands behind the end of what {kind} packed: programs read it or don't",
        )


def _unlzma(data: bytes, budget: Budget) -> Iterator[tuple[str, bytes]]:
    """Unpack an LZMA file: libarchive knows the commonest numbers of its head alone.

    It has neither a sign nor a sum: with other numbers, what can't be read on is something else after all.
    """
    budget.member()
    blocks = LzmaBlocks(data, budget.limits.unpacked)
    content = _content(blocks, len(data), budget, 0)
    yield "", content
    if data[:1] == _COMMON_LZMA and not blocks.is_whole:
        raise Refusal("archive-broken", "an LZMA file that can't be read to its end, or goes on behind it")


def _read(data: bytes, kind: str, budget: Budget) -> Iterator[tuple[str, bytes]]:
    if kind == "tar":
        check_tar(data, budget.limits.members)
    free = len(data) if kind in _STORED else 0
    packed = "none" if kind != "all" else "all"
    with libarchive.memory_reader(data, format_name=kind, filter_name=packed) as archive:
        for entry in archive:
            budget.member()
            # what is no file may have content too
            content = _content(entry.get_blocks(), len(data), budget, free)
            free = max(0, free - len(content))
            if content or entry.isfile:
                yield str(entry.pathname or "content"), content
        used = archive.bytes_read
    if kind == "cpio" and (rest := data[used:].lstrip(b"\0")):
        budget.bytes(len(rest))
        yield "behind", rest  # as an initial RAM disk behind the processor's microcode
    if kind == "tar" and _goes_on(data[used:]):
        raise Refusal("archive-ambiguous", "the tar goes on behind its end: programs read it or don't")


def _goes_on(rest: bytes) -> bool:
    return bool(rest.strip(b"\0")) and any(is_tar(rest[at : at + BLOCK]) for at in range(0, len(rest), BLOCK))


def _read_parts(data: bytes, budget: Budget, shown: Counter[bytes]) -> Iterator[tuple[str, bytes]]:
    for name, blocks in parts(data, shown):
        budget.member()
        yield name or "content", _content(blocks, len(data), budget, 0)


def _read_zip(data: bytes, start: int, budget: Budget, shown: Counter[bytes]) -> Iterator[tuple[str, bytes]]:
    told = iter(check_zip(data, budget.limits.members, shown))
    # without its comment: libarchive looks for the end in the last 16 KiB, and without one goes by the files' headers
    whole = data[start : zip_end(data) + 20] + bytes(2)
    with libarchive.memory_reader(whole, format_name="zip", filter_name="none") as archive:
        for entry in archive:
            budget.member()
            said = next(told, None)
            content = link_target(data, said) if said and entry.issym else b""
            budget.bytes(len(content))
            if not (said and said.is_nothing):
                content = content or _content(entry.get_blocks(), len(data), budget, 0)
            check_content(data, said, content)
            if content or entry.isfile:
                yield str(entry.pathname or "content"), content
    if next(told, None):
        check_content(data, None, b"")


def _content(blocks: Iterable[bytes], packed: int, budget: Budget, free: int) -> bytes:
    content = bytearray()
    for block in blocks:
        budget.bytes(max(0, len(block) - max(0, free - len(content))))
        content += block
        if len(content) > budget.limits.ratio_from and len(content) > budget.limits.ratio * packed:
            raise LimitHit("ratio", budget.limits.ratio, " bytes unpacked per byte")
    return bytes(content)


def _words(error: ArchiveError) -> str:
    return str(error).split(" (errno")[0][:120]
