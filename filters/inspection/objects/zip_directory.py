"""Read a zip's directory, and refuse a zip that different programs unpack differently.

Some programs go by the directory, some by the headers in front of the files, some by both: these must say the same, and
nothing may lie between the files that looks like a part of a zip. Source: APPNOTE.TXT 6.3.10 sections 4.3.6 to 4.3.16.
"""

import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from filters.inspection.finding import LimitHit, Refusal
from filters.inspection.objects.archive_kinds import LOCATOR, WIDE_END, zip_end
from filters.inspection.objects.zip_signs import are_shown

_LOCAL = b"PK\x03\x04"
_DESCRIPTOR = b"PK\x07\x08"
_SIGNATURE = re.compile(rb"PK(?:\x01\x02|\x03\x04|\x05\x06|\x06[\x06\x07]|\x07\x08)")
_ENCRYPTED, _STREAMED = 0x2041, 0x0008
_FLAGS: Final = _ENCRYPTED | _STREAMED | 0x0800  # the last: names in UTF-8; other flags change nothing
_EXTENDED: Final = 0xFFFFFFFF  # the number stands in the extra field of zip64
_DEFLATED, _LZMA = 8, 14
_LEAST_LZMA: Final = 32  # bytes, in which no more is packed than a few
_MOST_DESCRIPTORS: Final = 1 << 16  # in one file: looked at one by one
_LONGEST_LINK: Final = 4096  # bytes: no path is longer


@dataclass(frozen=True, slots=True)
class Entry:
    """What a zip says of one file. Its packed bytes are `data[start : start + packed]`."""

    name: bytes
    offset: int
    start: int
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    is_wide: bool  # its local header has numbers of zip64

    @property
    def is_nothing(self) -> bool:
        """Whether it is empty, packed as LZMA packs nothing: libarchive can't read that."""
        return self.method == _LZMA and self.size == self.crc == 0 and self.packed <= _LEAST_LZMA

    @property
    def stop(self) -> int:
        """Where its packed bytes end."""
        return self.start + self.packed


def check_zip(data: bytes, most: int, shown: Counter[bytes] | None = None) -> list[Entry]:
    """Return what a zip holds, in the order of its bytes; raises Refusal, and LimitHit for more than `most` files.

    shown: marks of what may stand before it, for it is judged anyway.
    """
    _check_count(data, most)
    try:
        with zipfile.ZipFile(io.BytesIO(_to_end(data))) as archive:
            infos, start = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, UnicodeDecodeError) as error:
        raise Refusal("archive-broken", f"a zip without a readable directory: {error}") from error
    if any(one.filename.endswith("/") and one.file_size for one in infos):
        raise _ambiguous("the zip holds a directory with content: programs read it or don't")
    if any(one.flag_bits & _ENCRYPTED for one in infos):
        raise Refusal("archive-encrypted", "the zip holds encrypted files: what they are can't be judged")
    _check_end(data, len(infos), start)
    names = _raw_names(data, start)
    found = []
    for one, (name, extra, comment, sizes) in zip(infos, names, strict=False):
        _check_told(one, extra, comment, sizes)
        found.append(_entry(data, one, name))
    found.sort(key=lambda one: one.offset)
    if (first := found[0].offset if found else start) and not are_shown(data[:first], shown or Counter()):
        raise _ambiguous("a header of a zip stands before the first file that the directory names")
    _check_gaps(data, found, start)
    return found


def _to_end(data: bytes) -> bytes:
    """Return the zip without its comment: some programs look further for its end than Python does."""
    end = zip_end(data)
    return data[: end + 20] + bytes(2) if 0 <= end <= len(data) - 22 else data


def link_target(data: bytes, entry: Entry) -> bytes:
    """Return the content of what a program may take for a link and another for a file."""
    packed = data[entry.start : entry.stop]
    if entry.method != _DEFLATED:
        return packed
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, _LONGEST_LINK)
    except zlib.error as error:
        raise Refusal("archive-broken", f"a link in a zip that can't be read: {error}") from error


def check_content(data: bytes, entry: Entry | None, content: bytes) -> None:
    """Refuse what was unpacked if it is not what the directory tells of. Raises Refusal."""
    if entry is None or len(content) != entry.size or zlib.crc32(content) != entry.crc:
        raise _ambiguous("what is unpacked from the zip is not what its directory tells of")
    if entry.flags & _STREAMED and entry.method == _DEFLATED and not _fills(data, entry):
        # who reads without the directory goes on where the packed file ends by itself
        raise _ambiguous("a file in the zip ends before its packed size")
    if entry.flags & _STREAMED and not entry.method and _ends_early(content):
        raise _ambiguous("a stored file in the zip ends, for who reads without the directory, before its end")


def _ends_early(content: bytes) -> bool:
    """Tell whether numbers inside a stored file say that it ends there: with the sum of what is before them."""
    total = before = 0
    at = content.find(_DESCRIPTOR)
    for _ in range(_MOST_DESCRIPTORS):
        if at < 0:
            return False
        total, before = zlib.crc32(content[before:at], total), at
        if _number(content, at + 4, 4) == total:
            return True
        at = content.find(_DESCRIPTOR, at + 1)
    return True


def _fills(data: bytes, entry: Entry) -> bool:
    reader, step = zlib.decompressobj(-zlib.MAX_WBITS), 1 << 14
    try:
        for at in range(entry.start, entry.stop, step):
            if reader.eof:
                return False
            reader.decompress(data[at : min(at + step, entry.stop)])
    except zlib.error:
        return False
    return not entry.packed or (reader.eof and not reader.unused_data)


def _check_count(data: bytes, most: int) -> None:
    """Refuse a directory that is longer than will be read, before it is read."""
    end = zip_end(data)
    sizes = [_number(data, end + 12, 4)]
    if data[end - 20 : end - 16] == LOCATOR:
        sizes.append(_number(data, end - WIDE_END + 40, 8))
    size = max((one for one in sizes if one != _EXTENDED), default=0)
    if data.count(b"PK\x01\x02", max(0, end - WIDE_END - size), max(0, end)) > most:
        raise LimitHit("members", most, " files in one object")


def _check_end(data: bytes, count: int, start: int) -> None:
    """Refuse a zip with a second directory or a second end."""
    end = zip_end(data)
    if _SIGNATURE.search(data, end + 4):
        raise _ambiguous("the zip goes on behind its end")
    told, size, place = (_number(data, end + at, width) for at, width in ((10, 2), (12, 4), (16, 4)))
    _check_discs(data, end)
    if data[end - 20 : end - 16] == LOCATOR:
        record, narrow = end - WIDE_END, ((told, 0xFFFF), (size, _EXTENDED), (place, _EXTENDED))
        told, size, place = wide = [_number(data, record + at, 8) for at in (32, 40, 48)]
        if (
            data[record : record + 4] != b"PK\x06\x06"
            or _number(data, end - 12, 8) + start - place != record
            or any(few not in {many, most} for many, (few, most) in zip(wide, narrow, strict=True))
        ):
            raise _ambiguous("the zip's two ends tell of different directories")
    if told != count or (place != start and data[place : place + 4] == b"PK\x01\x02"):
        raise _ambiguous("the zip's end tells of another directory than the one before it")


def _check_discs(data: bytes, end: int) -> None:
    """Refuse a zip that says that it is a part of one on several discs: some programs take its number for it."""
    discs = {_number(data, end + 4, 2), _number(data, end + 6, 2)}
    if is_wide := data[end - 20 : end - 16] == LOCATOR:
        record = end - WIDE_END
        discs |= {_number(data, at, 4) for at in (record + 16, record + 20, end - 16)}
    if discs - ({0, 0xFFFF} if is_wide else {0}) or data[end + 8 : end + 10] != data[end + 10 : end + 12]:
        raise _ambiguous("the zip's end tells of several discs")


def _check_told(info: zipfile.ZipInfo, extra: bytes, comment: bytes, sizes: tuple[int, ...]) -> None:
    """Refuse what the directory says twice of a file, and what begins like a header in its words."""
    if not (are_shown(extra, Counter()) and are_shown(comment, Counter())):
        raise _ambiguous("a header of a zip stands in a comment or extra field of the directory")
    wide = _wide_numbers(extra)
    if wide is not None:
        _check_unasked(wide, sizes, (info.file_size, info.compress_size, sizes[2]), streamed=False)


def _raw_names(data: bytes, at: int) -> Iterator[tuple[bytes, bytes, bytes, tuple[int, ...]]]:
    """Yield name, extra fields, comment, and sizes and place of each entry as they stand there."""
    while data[at : at + 4] == b"PK\x01\x02":
        length, more, comment = (_number(data, at + place, 2) for place in (28, 30, 32))
        name, extra = at + 46 + length, at + 46 + length + more
        sizes = tuple(_number(data, at + one, 4) for one in (24, 20, 42))
        yield data[at + 46 : name], data[name:extra], data[extra : extra + comment], sizes
        at = extra + comment


def _entry(data: bytes, info: zipfile.ZipInfo, name: bytes) -> Entry:
    """Return what both headers of a file say."""
    at = info.header_offset
    length, more = _number(data, at + 26, 2), _number(data, at + 28, 2)
    start = at + 30 + length + more
    told = Entry(
        name,
        at,
        start,
        info.flag_bits,
        info.compress_type,
        info.CRC,
        info.compress_size,
        info.file_size,
        False,
    )
    flags, method, crc = (_number(data, at + place, width) for place, width in ((6, 2), (8, 2), (14, 4)))
    size, packed, is_wide = _local_sizes(data, at, data[start - more : start], (told.size, told.packed))
    numbers = ((crc, told.crc), (packed, told.packed), (size, told.size))
    later = {0} if flags & _STREAMED else set()  # they stand behind the file, then
    if (
        data[at : at + 4] != _LOCAL
        or data[at + 30 : at + 30 + length] != name
        or method != told.method
        or (flags ^ told.flags) & _FLAGS
        or any(local not in {there, *later} for local, there in numbers)
    ):
        raise _ambiguous(f"the zip's directory and its entry disagree about {info.orig_filename[:60]!r}")
    return replace(told, is_wide=is_wide)


def _local_sizes(data: bytes, at: int, extra: bytes, told: tuple[int, int]) -> tuple[int, int, bool]:
    """Return the size and the packed size that stand in front of a file, and whether numbers of zip64 do."""
    sizes = (_number(data, at + 22, 4), _number(data, at + 18, 4))
    wide = _wide_numbers(extra)
    if wide is None:
        return *sizes, False
    _check_unasked(wide, sizes, told, streamed=bool(_number(data, at + 6, 2) & _STREAMED))
    rest = iter(wide)
    size, packed = (next(rest, 0) if one == _EXTENDED else one for one in sizes)
    return size, packed, True


def _wide_numbers(extra: bytes) -> tuple[int, ...] | None:
    """Return the numbers of zip64 in a header's extra fields; None where there are none. Raises Refusal for two fields."""
    found, place = None, 0
    while place + 4 <= len(extra):
        kind, length = _number(extra, place, 2), _number(extra, place + 2, 2)
        if kind == 1:
            if found is not None:
                raise _ambiguous(
                    "a header in the zip has numbers of zip64 twice: programs read the first or the last"
                )
            field = extra[place + 4 : place + 4 + length]
            found = tuple(_number(field, one, 8) for one in range(0, len(field) - 7, 8))
        place += 4 + length
    return found


def _check_unasked(
    wide: tuple[int, ...], sizes: tuple[int, ...], told: tuple[int, ...], *, streamed: bool
) -> None:
    """Refuse numbers of zip64 that the header does not ask for, if they say anything else: some programs believe them."""
    asked = sizes.count(_EXTENDED)
    if asked in {len(wide), len(told)} and len(wide) >= asked:
        return
    if any(one != there and not (streamed and one == 0) for one, there in zip(wide, told, strict=False)):
        raise _ambiguous(
            "a header in the zip has numbers of zip64 that it does not ask for, and they are others"
        )


def _check_gaps(data: bytes, found: list[Entry], directory: int) -> None:
    """Refuse what looks like a part of a zip between its files; what stands before a zip may be a program."""
    end = 0 if data[:4] == _LOCAL or not found else found[0].offset
    before: Entry | None = None
    for entry in found:
        _check_gap(data[end : entry.offset], before)
        end, before = max(end, entry.stop), entry
    _check_gap(data[end:directory], before)


def _check_gap(gap: bytes, before: Entry | None) -> None:
    if _SIGNATURE.search(gap, _descriptor(gap, before) if before and before.flags & _STREAMED else 0):
        raise _ambiguous("the zip holds a file that its directory does not name")


def _descriptor(gap: bytes, entry: Entry) -> int:
    """Return how long the numbers are that stand behind a file which was written without knowing them."""
    width = 8 if entry.is_wide else 4
    if max(entry.packed, entry.size) >= 1 << 8 * width:
        return 0
    told = b"".join(
        one.to_bytes(size, "little")
        for one, size in ((entry.crc, 4), (entry.packed, width), (entry.size, width))
    )
    return next((len(sign + told) for sign in (_DESCRIPTOR, b"") if gap.startswith(sign + told)), 0)


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")


def _ambiguous(detail: str) -> Refusal:
    return Refusal("archive-ambiguous", detail)
