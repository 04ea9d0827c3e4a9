"""Walk a tar's headers strictly, and refuse those that programs read differently: each would find other files behind them.

Source: POSIX.1-2017 pax (ustar and pax interchange formats), GNU tar's manual ("Basic Tar Format", "Storing Sparse Files").
"""

import re
import tarfile
from typing import Final

from filters.inspection.finding import LimitHit, Refusal

BLOCK: Final = 512  # bytes of a tar
_OCTAL: Final = re.compile(rb" *[0-7]*[ \0]*")
_SUM: Final = re.compile(rb"[ \t]*([0-7]+)")
_PAX, _PAX_GLOBAL, _LONG_NAME, _SPARSE = b"xX", b"g", b"L", b"S"
_EMPTY: Final = b"123456V"  # links, devices, directories, pipes, labels: nothing stands behind them
_MOST_A_FILE: Final = 4  # headers that tell of one file


def is_tar(block: bytes) -> bool:
    """Tell whether a block of a tar begins a file: its sum counts bytes with or without a sign."""
    if len(block) < BLOCK or block[148] not in b"\0 \t01234567\x80":
        return False
    told = block[148:156] if block[148] else block[149:156]  # GNU tar passes over one zero in front
    if said := _SUM.match(told):  # what stands behind the digits is left unread
        return int(said[1], 8) in tarfile.calc_chksums(block)  # type: ignore[attr-defined]
    try:
        total = tarfile.nti(told)  # type: ignore[attr-defined]
    except tarfile.HeaderError:
        return False
    # an empty field says 0, which sounds near silence have for a sum: only digits say it
    return total > 0 and total in tarfile.calc_chksums(block)  # type: ignore[attr-defined]


def check_tar(data: bytes, most: int) -> None:
    """Refuse a header that programs read differently. Raises Refusal, and LimitHit for headers of more than `most` files."""
    at = 0 if data[:BLOCK].strip(b"\0") else BLOCK
    told, kind = dict[bytes, bytes](), b""
    for _ in range(_MOST_A_FILE * most):
        block = data[at : at + BLOCK]
        if not is_tar(block):
            return
        before, kind = kind, block[156:157]
        size = _size(block[124:136])
        start = _behind_sparse(data, at) if kind == _SPARSE else at + BLOCK
        content = data[start : start + size]
        if kind in _PAX + _PAX_GLOBAL:
            if before and kind in _PAX and before in _PAX:
                raise _ambiguous("two headers of pax tell of one file")
            told = _pax(content) if kind in _PAX else told
            if kind in _PAX_GLOBAL and b"size" in _pax(content):
                raise _ambiguous("a size is told of all files")
        elif kind == _LONG_NAME:
            told = {b"path": content.partition(b"\0")[0], **told}
        elif kind != b"K":
            _check_file(block, size, told)
            told = {}
        at = start + -(-size // BLOCK) * BLOCK
    raise LimitHit("members", most, " files in one object")


def _check_file(block: bytes, size: int, told: dict[bytes, bytes]) -> None:
    if told.get(b"size", b"%d" % size) != b"%d" % size:
        raise _ambiguous("pax tells of another size than the header")
    name = told.get(b"path", block[:100].partition(b"\0")[0])
    if size and (block[156:157] in _EMPTY or (name.endswith(b"/") and block[156:157] in b"0\x007")):
        raise _ambiguous("what is no file has content")


def _size(field: bytes) -> int:
    if _OCTAL.fullmatch(field):
        return int(field.strip(b" \0") or b"0", 8)
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    raise _ambiguous("a size is no plain number")


def _pax(content: bytes) -> dict[bytes, bytes]:
    """Return what a header of pax says, as far as it can be read; raises Refusal for a size twice."""
    found, at = dict[bytes, bytes](), 0
    while (space := content.find(b" ", at, at + 12)) > 0 and content[at:space].isdigit():
        stop = at + int(content[at:space])
        key, _, value = content[space + 1 : stop - 1].partition(b"=")
        if key == b"size" and found.get(key, value) != value:
            raise _ambiguous("pax tells of two sizes")
        found[key] = value
        if stop <= space:
            break
        at = stop
    return found


def _behind_sparse(data: bytes, at: int) -> int:
    """Return where content begins behind the blocks of a sparse file's map."""
    more, at = data[at + 482 : at + 483], at + BLOCK
    while more.strip(b"\0"):
        more, at = data[at + 504 : at + 505], at + BLOCK
    return at


def _ambiguous(detail: str) -> Refusal:
    return Refusal("archive-ambiguous", f"a tar in which {detail}: programs find other files behind it")
