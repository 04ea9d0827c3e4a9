"""Tell what an archive can be opened as: by the signs that programs go by, wherever these stand."""

import re
import zlib
from collections.abc import Callable
from typing import Final

from filters.inspection.finding import Refusal
from filters.inspection.objects.lzma_file import is_lzma
from filters.inspection.objects.tar_headers import BLOCK, is_tar
from filters.inspection.objects.zip_signs import holds_parts

# libarchive's names: what holds one thing and makes it smaller
COMPRESSED: Final = frozenset({"gzip", "bzip2", "xz", "lzma", "zstd", "lzip", "compress", "lz4"})
LOCATOR: Final = b"PK\x06\x07"  # before a zip's end, where zip64 has an end of its own
WIDE_END: Final = 56 + 20  # bytes: zip64's end, and what tells where it is
_SIGNS: Final = (
    (0, b"\x1f\x8b", "gzip"), (0, b"\x1f\x9e", "gzip"), (0, b"BZh", "bzip2"), (0, b"\xfd7zXZ\0", "xz"), (0, b"\x28\xb5\x2f\xfd", "zstd"), (0, b"LZIP", "lzip"), (0, b"\x1f\x9d", "compress"),
    (0, b"\x04\x22\x4d\x18", "lz4"), (0, b"\x02\x21\x4c\x18", "lz4"), (0, b"PK\x03\x04", "zip"), (0, b"MSCF", "cab"), (0, b"!<arch>\n", "ar"), (0, b"xar!", "xar"),
    (257, b"ustar", "tar"), (0, b"070701", "cpio"), (0, b"070702", "cpio"), (0, b"070707", "cpio"), (0, b"\xc7\x71", "cpio"), (0, b"\x71\xc7", "cpio"),
    (32769, b"CD001", "iso9660"), (34817, b"CD001", "iso9660"), (36865, b"CD001", "iso9660"),
)  # fmt: skip
# signs that nothing else has: with these it is an archive, whatever libmagic takes it for
_SURE: Final = tuple(
    (at, re.compile(form, re.DOTALL), name)
    for at, form, name in (
        (0, rb"\x1f[\x8b\x9e]\x08", "gzip"), (0, rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "bzip2"), (0, rb"\xfd7zXZ\0", "xz"), (0, rb"\x28\xb5\x2f\xfd", "zstd"), (0, rb"LZIP[\0\1]", "lzip"),
        (0, rb"\x1f\x9d[\x09-\x10\x89-\x90]", "compress"), (0, rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", "lz4"), (0, rb"PK\x03\x04", "zip"), (0, rb"MSCF\0\0\0\0", "cab"), (0, rb"!<arch>\n", "ar"),
        (0, rb"xar!\0", "xar"), (0, rb"07070[12][0-9A-Fa-f]{104}|070707[0-7]{70}", "cpio"), (0, rb"..-l[hz][0-9a-z]-.{13}[\0-\2]", "lha"), (0, rb"\xed\xab\xee\xdb", "all"),
        (32768, rb"[\0-\3\xff]CD001\x01", "iso9660"), (34816, rb"[\0-\3\xff]CD001\x01", "iso9660"), (36864, rb"[\0-\3\xff]CD001\x01", "iso9660"),
    )
)  # fmt: skip
# asked first, for nearly everything that is looked at begins in another way
_FIRST: Final = tuple(sign for at, sign, _ in _SIGNS if not at)
_LATER: Final = sorted((at, sign) for at, sign, _ in _SIGNS if at)
_SURE_FIRST: Final = re.compile(
    b"|".join(b"(?:%s)" % form.pattern for at, form, _ in _SURE if not at), re.DOTALL
)
_SURE_LATER: Final = min(at for at, _, _ in _SURE if at)
# the rest is told by libmagic; `all` where libarchive has several readers for it
_TYPES: Final = {
    "application/x-tar": "tar", "application/x-lzma": "lzma", "application/x-iso9660-image": "iso9660", "application/x-cpio": "cpio",
    "application/x-rar": "all", "application/vnd.rar": "all", "application/x-rpm": "all", "application/x-lha": "lha", "application/x-lzh-compressed": "lha",
}  # fmt: skip
_SEVEN: Final = b"7z\xbc\xaf\x27\x1c"
_RAR: Final = b"Rar!\x1a\x07"
_RAR_WITHIN: Final = 8 << 20  # bytes: no program looks further for it
_SKIPPED = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18(.{4})", re.DOTALL)  # a frame that zstd and lz4 pass over
_MOST_TRIED: Final = 4096  # signs: whoever writes more of one wants to be looked at for long
_PASSED_OVER: Final = 8 * BLOCK  # bytes in front of a tar
_END, _ENTRY = b"PK\x05\x06", b"PK\x01\x02"
_LONGEST_END: Final = (
    72 << 10
)  # bytes: the end of a zip's directory, with its comment; some programs look further
PARTS: Final = "zip-parts"  # files of a zip without the directory that tells of them


def kinds(data: bytes, media_type: str) -> tuple[tuple[str, int], ...]:
    """Return every kind of archive that the data can be opened as, and where it begins; `all` where nothing tells.

    Raises Refusal for what begins with more frames that are passed over than will be looked at.
    """
    if _SKIPPED.match(data, _behind_skipped(data)):
        raise Refusal("archive-ambiguous", f"more than {_MOST_TRIED} frames that are passed over")
    found = {name: 0 for at, sign, name in _SIGNS if data.startswith(sign, at)}
    found |= _sure(data)
    told = _TYPES.get(media_type, "")
    if told and not ("rar" in media_type and found.keys() & {"rar", "rar5"}):
        found.setdefault(told, 0)
    return tuple(found.items()) or (("all", 0),)


def surely(data: bytes) -> dict[str, int]:
    """Return the kinds of archive that the data is whatever anything else says, and where each begins."""
    return _sure(data)


def is_compressed(data: bytes) -> bool:
    """Tell whether the data is something else, made smaller."""
    return not COMPRESSED.isdisjoint(_sure(data))


def is_archive(data: bytes) -> bool:
    """Tell whether the data holds an archive, whatever libmagic takes it for."""
    return bool(_sure(data))


def begins_as_archive(head: bytes) -> bool:
    """Tell whether the first bytes of something may be those of an archive."""
    return (
        head.startswith(_FIRST)
        or (len(head) > _LATER[0][0] and any(head.startswith(sign, at) for at, sign in _LATER))
        or bool(_SKIPPED.match(head) or _sure(head))
    )


def _sure(data: bytes) -> dict[str, int]:
    found = dict[str, int]()
    if len(data) > _SURE_LATER or _SURE_FIRST.match(data):
        found = {name: 0 for at, form, name in _SURE if form.match(data, at)}
    if (place := _tar_start(data)) >= 0:
        found["tar"] = place
    if is_lzma(data):
        found["lzma"] = 0
    if (frame := _behind_skipped(data)) > 0:
        more = _SKIPPED.match(data, frame) is not None  # whatever is behind them all
        found |= {
            name: frame
            for _, form, name in _SURE
            if name in {"zstd", "lz4"} and (more or form.match(data, frame))
        }
    if (place := _rar(data)) >= 0:
        found["rar5" if data[place + 6 : place + 7] == b"\1" else "rar"] = place
    if ends_as_zip(data):
        found["zip"] = zip_start(data)
    elif "zip" not in found and holds_parts(data):
        found[PARTS] = 0
    if (place := _seven_zip(data)) >= 0:
        found["7zip"] = place
    return found


def _tar_start(data: bytes) -> int:
    """Return where a tar begins: programs pass over blocks of anything else. -1: nowhere."""
    if data[257:263] in {b"ustar\0", b"ustar "}:
        return 0  # some program reads it, whatever its sum
    for at in range(0, min(len(data) - BLOCK + 1, _PASSED_OVER), BLOCK):
        if is_tar(data[at : at + BLOCK]):
            return at if data[:at].strip(b"\0") else 0  # behind zeros: behind the end, for some
    return -1


def _behind_skipped(data: bytes) -> int:
    """Return where the first frame begins that is not passed over, or the last that is looked at."""
    at = 0
    for _ in range(_MOST_TRIED):
        frame = _SKIPPED.match(data, at)
        if not frame:
            break
        at += 8 + int.from_bytes(frame[1], "little")
    return at


def _first(data: bytes, sign: bytes, within: int, fits: Callable[[int], bool]) -> int:
    """Return where a sign stands that fits, or the last that is looked at. -1: nowhere."""
    at = data.find(sign, 0, within)
    for _ in range(_MOST_TRIED):
        if at < 0 or fits(at):
            break
        at = data.find(sign, at + 1, within)
    return at


def _rar(data: bytes) -> int:
    """Return where a RAR begins: programs look for it behind anything. -1: nowhere."""
    return _first(data, _RAR, _RAR_WITHIN, lambda at: _is_rar(data[at : at + 4096]))


def _is_rar(data: bytes) -> bool:
    """Tell whether the first header behind RAR's sign has the sum that it tells: programs for RAR have the sign in them."""
    if data[6:7] == b"\0":
        size, told = (int.from_bytes(data[at : at + 2], "little") for at in (12, 7))
        return data[9:10] == b"s" and size >= 13 and zlib.crc32(data[9 : 7 + size]) & 0xFFFF == told
    size, at = 0, 12
    for place, one in enumerate(data[12:15]):
        size, at = size | (one & 0x7F) << 7 * place, 13 + place
        if one < 0x80:
            break
    return (
        data[6:8] == b"\1\0"
        and len(data) > 12
        and zlib.crc32(data[12 : at + size]) == int.from_bytes(data[8:12], "little")
    )


def ends_as_zip(data: bytes) -> bool:
    """Tell whether the data ends with a zip's directory: then programs open it, whatever it begins with."""
    end = zip_end(data)
    if end < 0:
        return False
    size = int.from_bytes(data[end + 12 : end + 16], "little")
    return data[end - 20 : end - 16] == LOCATOR or (size > 0 and data[end - size : end - size + 4] == _ENTRY)


def zip_start(data: bytes) -> int:
    """Return how many bytes stand before a zip that does not count them in its places."""
    end = zip_end(data)
    if end < 0:
        return 0
    size, place = (int.from_bytes(data[end + at : end + at + 4], "little") for at in (12, 16))
    if data[end - 20 : end - 16] == LOCATOR:
        end -= WIDE_END
        size, place = (int.from_bytes(data[end + at : end + at + 8], "little") for at in (40, 48))
    return max(0, end - size - place)


def zip_end(data: bytes) -> int:
    """Return where the record begins that ends a zip. -1: nowhere."""
    return data.rfind(_END, max(0, len(data) - _LONGEST_END), max(0, len(data) - 22 + len(_END)))


def _seven_zip(data: bytes) -> int:
    """Return where a 7z begins: programs look for it behind something that unpacks it. -1: nowhere."""

    def fits(at: int) -> bool:
        return len(data) >= at + 32 and zlib.crc32(data[at + 12 : at + 32]) == int.from_bytes(
            data[at + 8 : at + 12], "little"
        )

    return _first(data, _SEVEN, len(data), fits)
