"""Tell what an archive can be opened as: by the signs that programs go by, wherever these stand."""

import zlib
from typing import Final

# libarchive's names: what holds one thing and makes it smaller
COMPRESSED: Final = frozenset({"gzip", "bzip2", "xz", "lzma", "zstd", "lzip", "compress", "lz4"})
_SIGNS: Final = (
    (0, b"\x1f\x8b", "gzip"), (0, b"BZh", "bzip2"), (0, b"\xfd7zXZ\0", "xz"), (0, b"\x28\xb5\x2f\xfd", "zstd"), (0, b"LZIP", "lzip"), (0, b"\x1f\x9d", "compress"),
    (0, b"\x04\x22\x4d\x18", "lz4"), (0, b"PK\x03\x04", "zip"), (0, b"MSCF", "cab"), (0, b"!<arch>\n", "ar"), (0, b"xar!", "xar"),
    (257, b"ustar", "tar"), (0, b"070701", "cpio"), (0, b"070702", "cpio"), (0, b"070707", "cpio"), (0, b"\xc7\x71", "cpio"), (0, b"\x71\xc7", "cpio"),
    (32769, b"CD001", "iso9660"), (34817, b"CD001", "iso9660"), (36865, b"CD001", "iso9660"),
)  # fmt: skip
# the rest is told by libmagic; `all` where libarchive has several readers for it
_TYPES: Final = {
    "application/x-tar": "tar", "application/x-lzma": "lzma", "application/x-iso9660-image": "iso9660", "application/x-cpio": "cpio",
    "application/x-rar": "all", "application/vnd.rar": "all", "application/x-rpm": "all", "application/x-lha": "lha", "application/x-lzh-compressed": "lha",
}  # fmt: skip
_SEVEN: Final = b"7z\xbc\xaf\x27\x1c"
_END, _ENTRY, _END64 = b"PK\x05\x06", b"PK\x01\x02", b"PK\x06\x07"
_LONGEST_END: Final = 22 + 0xFFFF  # bytes: the end of a zip's directory, with its comment


def kinds(data: bytes, media_type: str) -> tuple[tuple[str, int], ...]:
    """Return every kind of archive that the data can be opened as, and where it begins; `all` where nothing tells."""
    found = {name: 0 for at, sign, name in _SIGNS if data.startswith(sign, at)}
    if media_type in _TYPES:
        found.setdefault(_TYPES[media_type], 0)
    if ends_as_zip(data):
        found["zip"] = zip_start(data)
    if (place := _seven_zip(data)) >= 0:
        found.setdefault("7zip", place)
    return tuple(found.items()) or (("all", 0),)


def is_compressed(data: bytes) -> bool:
    """Tell whether the data is something else, made smaller."""
    return any(data.startswith(sign) for _, sign, name in _SIGNS if name in COMPRESSED)


def is_archive(data: bytes) -> bool:
    """Tell whether the data holds an archive that libmagic does not tell of: one behind something else."""
    return data[:4] == b"PK\x03\x04" or ends_as_zip(data) or _seven_zip(data) >= 0


def ends_as_zip(data: bytes) -> bool:
    """Tell whether the data ends with a zip's directory: then programs open it, whatever it begins with."""
    end = _end(data)
    if end < 0:
        return False
    size = int.from_bytes(data[end + 12 : end + 16], "little")
    return data[end - 20 : end - 16] == _END64 or (size > 0 and data[end - size : end - size + 4] == _ENTRY)


def zip_start(data: bytes) -> int:
    """Return how many bytes stand before a zip that does not count them in its places."""
    end = _end(data)
    size, place = (int.from_bytes(data[end + at : end + at + 4], "little") for at in (12, 16))
    return max(0, end - size - place) if end >= 0 else 0


def _end(data: bytes) -> int:
    end = data.rfind(_END, max(0, len(data) - _LONGEST_END))
    return end if len(data) - end >= 22 else -1


def _seven_zip(data: bytes) -> int:
    """Return where a 7z begins: programs look for it behind something that unpacks it. -1: nowhere."""
    at = data.find(_SEVEN)
    while at >= 0 and zlib.crc32(data[at + 12 : at + 32]) != int.from_bytes(data[at + 8 : at + 12], "little"):
        at = data.find(_SEVEN, at + 1)
    return at
