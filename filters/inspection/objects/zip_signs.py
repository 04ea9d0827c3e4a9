"""Know headers of a zip wherever they stand, and read what stands behind one without any directory.

Programs that read a stream look for a file's header behind anything; others look for the directory in the last bytes and
are content with an end that fits it badly. Source: APPNOTE.TXT 6.3.10 sections 4.3.7, 4.3.12 and 4.3.16.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final

from filters.inspection.finding import Refusal

# version 1.0 to 6.3, DOS or Unix, flags, a method that somebody knows: not met by chance
_SAID: Final = (
    rb"[\x0a-\x3f][\x00\x03]..[\x00\x01\x02\x05\x06\x08\x09\x0c\x0e\x13\x5d\x5f\x60\x61\x62\x63]\x00"
)
_FILE: Final = re.compile(rb"PK\x03\x04" + _SAID, re.DOTALL)
_ENTRY: Final = re.compile(rb"PK\x01\x02.[\x00-\x13]" + _SAID, re.DOTALL)
_END: Final = re.compile(rb"PK\x05\x06\0{4}(?!\0\0)(..)\1", re.DOTALL)
_MARK: Final = 42  # bytes by which a header is known again: with its sum, sizes and some of its name
SHORT: Final = 18  # of them where a packer may have left a header as it is, until something repeats itself
_MOST: Final = 1 << 16  # headers that are known again
_END_LENGTH: Final = 22  # bytes of an end without its comment
_LAST: Final = 72 << 10  # bytes at the end, in which some program looks for the directory's end
_AGAIN: Final = 8  # times that the data is unpacked from one place or another
_DESCRIPTOR: Final = b"PK\x07\x08"
_STEP: Final = 1 << 16
_STORED, _DEFLATED = 0, 8


def marks(data: bytes, length: int = _MARK) -> Counter[bytes]:
    """Return what stands in the data that begins like a zip's header or end, each by its first bytes, and how often."""
    found = chain(*(sign.finditer(data) for sign in _signs(data)))
    return Counter(_mark(data, one.start(), length) for one in islice(found, _MOST))


def are_shown(data: bytes, shown: Counter[bytes]) -> bool:
    """Tell whether all headers of zips in the data are those that are judged anyway."""
    told = marks(data)
    return told.total() < _MOST and all(_is_shown(one, count, shown) for one, count in told.items())


def holds_parts(data: bytes) -> bool:
    """Tell whether some program reads files of a zip in the data: each by its header, or by what is left of a directory."""
    return (b"PK\x03\x04" in data and _FILE.search(data) is not None) or _has_odd_end(data)


def parts(data: bytes, shown: Counter[bytes]) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield (name, blocks of content) of files as who reads no directory finds them. Raises Refusal.

    shown: marks of what is judged anyway.
    """
    if are_shown(data, shown):
        return
    if _has_odd_end(data):
        raise Refusal("archive-ambiguous", "the data holds a zip's files, and an end that does not fit them")
    told = marks(data)
    stop, left = 0, [_AGAIN * len(data)]
    for one in _FILE.finditer(data):
        at = one.start()
        if at < stop or _is_shown(mark := _mark(data, at, _MARK), told[mark], shown):
            continue
        flags, method, length = (_number(data, at + place, 2) for place in (6, 8, 26))
        start = at + 30 + length + _number(data, at + 28, 2)
        if flags & 1 or method not in {_STORED, _DEFLATED}:
            raise Refusal(
                "archive-ambiguous",
                "a file of a zip, without directory, that can't be unpacked behind other things",
            )
        name = data[at + 30 : at + 30 + length].decode("utf-8", "replace")
        if method == _DEFLATED:
            yield name, _inflate(data, start, left)
        else:
            stop = _stored_end(data, at, start)
            yield name, (data[start:stop],)


def _is_shown(mark: bytes, count: int, shown: Counter[bytes]) -> bool:
    return count <= shown[mark] or shown[mark[:SHORT]] > 0


def _mark(data: bytes, at: int, length: int) -> bytes:
    is_end = data.startswith(b"PK\x05\x06", at)
    return data[at : at + (min(length, _END_LENGTH) if is_end else length)]


def _signs(data: bytes) -> Iterator[re.Pattern[bytes]]:
    for begin, sign in ((b"PK\x03\x04", _FILE), (b"PK\x01\x02", _ENTRY), (b"PK\x05\x06", _END)):
        if begin in data:
            yield sign


def _has_odd_end(data: bytes) -> bool:
    """Tell whether a directory's end stands in the last bytes, behind a header: fit or not."""
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - _LAST))
    return end > 0 and any(one.search(data, 0, end) for one in (_FILE, _ENTRY))


def _stored_end(data: bytes, at: int, start: int) -> int:
    packed = _number(data, at + 18, 4)
    if not _number(data, at + 6, 2) & 8 and packed < 0xFFFFFFFF:
        return start + packed
    end = data.find(_DESCRIPTOR, start)
    return end if end >= 0 else len(data)


def _inflate(data: bytes, at: int, left: list[int]) -> Iterator[bytes]:
    """Yield what is packed from there on, as far as it can be read. left: bytes that may be read; raises Refusal beyond."""
    reader = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        while not reader.eof and at < len(data):
            packed = data[at : at + _STEP]
            yield reader.decompress(packed)
            at, left[0] = at + _STEP, left[0] - len(packed) + len(reader.unused_data)
            if left[0] < 0:
                raise Refusal("archive-ambiguous", "a crowd of headers of a zip in front of what is packed")
    except zlib.error:
        return


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")
