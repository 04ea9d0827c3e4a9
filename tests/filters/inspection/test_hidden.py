"""A zip in what is passed on coded: where decoding does not show it."""

import gzip
import io
import random
import zipfile
import zlib

import brotli
import pytest
import zstandard

from filters.inspection.coding.hidden import Tail
from tests.filters.inspection.drive import DOWN, EICAR, GET, UP, answer, exchange


def _zip(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.com", content)
    return out.getvalue()


def brotli_with_metadata(hidden: bytes, shown: bytes = b"") -> bytes:
    """Write one metadata block, one that is not compressed, and the empty last one (RFC 7932 section 9.2)."""
    size = (len(hidden) - 1).to_bytes(2 if len(hidden) > 256 else 1, "little")
    skipped = _bits((0, 1), (0, 1), (3, 2), (0, 1), (len(size), 2), *((one, 8) for one in size))  # WBITS 16
    block = _bits((0, 1), (0, 2), (len(shown) - 1, 16), (1, 1)) + shown if shown else b""
    return skipped + hidden + block + b"\x03"


def _bits(*fields: tuple[int, int]) -> bytes:
    """Write (value, how many bits), the first lowest, to the next whole byte."""
    bits = length = 0
    for value, count in fields:
        bits |= value << length
        length += count
    return bits.to_bytes(-(-length // 8), "little")


def test_rejects_a_zip_beside_what_the_coding_shows() -> None:
    for shown in (b"", b"harmless"):
        coded = brotli_with_metadata(_zip(EICAR), shown)
        assert zipfile.ZipFile(io.BytesIO(coded)).read("a.com") == EICAR
        assert brotli.decompress(coded) == shown
        message = answer(coded, b"Content-Encoding: br")
        for size in (len(message), 7):
            pieces = [(DOWN, message[start : start + size]) for start in range(0, len(message), size)]
            driven = exchange([(UP, GET), *pieces])
            assert driven.cut is not None
            assert driven.cut.check == "coding-archive"


def _ends_as_zip(data: bytes, size: int = 1 << 20) -> bool:
    tail = Tail()
    for start in range(0, len(data), size):
        tail.add(data[start : start + size])
    return tail.hides_zip(Tail())


@pytest.mark.parametrize("size", [300, 20_000, 60_000, 300_000])
@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"zstd"])
def test_a_zip_that_a_coder_could_not_make_smaller_passes(coding: bytes, size: int) -> None:
    plain = _zip(random.Random(7).randbytes(size))
    coded = {
        b"gzip": lambda: gzip.compress(plain),
        b"deflate": lambda: zlib.compress(plain),
        b"br": lambda: brotli.compress(plain, quality=4),
        b"zstd": lambda: zstandard.compress(plain),
    }[coding]()
    driven = exchange([(UP, GET), (DOWN, answer(coded, b"Content-Encoding: " + coding))])
    assert driven.cut is None
    assert driven.out[DOWN].endswith(coded)


def test_rejects_a_hidden_zip_whose_end_is_that_of_the_shown_one() -> None:
    hidden = _zip(EICAR)
    shown = hidden.replace(hidden[40:60], bytes(20))  # its directory, and other content
    assert shown[-80:] == hidden[-80:]
    coded = brotli_with_metadata(hidden, shown)
    driven = exchange([(UP, GET), (DOWN, answer(coded, b"Content-Encoding: br"))])
    assert driven.cut is not None
    assert driven.cut.check == "coding-archive"


def _counted_from(data: bytes, place: int) -> bytes:
    """Have a zip of one file count its places from so many bytes before it."""
    out = bytearray(data)
    end, entry = data.rindex(b"PK\x05\x06"), data.index(b"PK\x01\x02")
    for at in (end + 16, entry + 42):
        out[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + place).to_bytes(4, "little")
    return bytes(out)


def _gzip_with_extra(extra: bytes, content: bytes) -> bytes:
    packed = gzip.compress(content, mtime=0)
    return packed[:3] + b"\x04" + packed[4:10] + len(extra).to_bytes(2, "little") + extra + packed[10:]


@pytest.mark.parametrize("place", [0, 12])
def test_sees_a_hidden_zip_whose_directory_stands_amid_what_is_shown(place: int) -> None:
    """Packed, the directory is not to be seen; that gzip may have no extra field is another check."""
    hidden = _counted_from(_zip(EICAR), place)
    directory = hidden[hidden.index(b"PK\x01\x02") :]
    for shown in (
        b"harmless" + directory + b"PK\x05\x06" + bytes(18),
        b"harmless" + directory + b" and more",
    ):
        coded, seen = Tail(), Tail()
        coded.add(_gzip_with_extra(hidden, shown))
        seen.add(shown)
        assert zipfile.ZipFile(io.BytesIO(_gzip_with_extra(hidden, shown))).read("a.com") == EICAR
        assert coded.hides_zip(seen)


def test_what_only_looks_like_an_end_is_none() -> None:
    for text in (b"PK\x05\x06", b"x" * 50 + b"PK\x05\x06" + bytes(40), b"PK\x05\x06" + b"\xff" * 40):
        assert not _ends_as_zip(text)


def test_pieces_make_no_difference() -> None:
    data = random.randbytes(100_000) + _zip(EICAR) + b"comment"
    for size in (1 << 20, 70_000, 999, 13):
        assert _ends_as_zip(data, size)
