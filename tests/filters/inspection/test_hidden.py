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
from tests.filters.inspection.drive import DOWN, EICAR, GET, UP, Driven, answer, exchange


def _zip(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.com", content)
    return out.getvalue()


def _gzip_with_extra(extra: bytes, content: bytes) -> bytes:
    packed = zlib.compressobj(wbits=-15)
    body = packed.compress(content) + packed.flush()
    head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\x03" + len(extra).to_bytes(2, "little") + extra
    return head + body + zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")


def _brotli_with_metadata(hidden: bytes) -> bytes:
    """Write one metadata block (RFC 7932 section 9.2) and the empty last one."""
    bits, length = 0b0, 1  # WBITS 16
    for value, count in ((0, 1), (3, 2), (0, 1), (1, 2), (len(hidden) - 1, 8)):
        bits |= value << length
        length += count
    return bits.to_bytes(3, "little")[: -(-length // 8)] + hidden + b"\x03"


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        (b"gzip", _gzip_with_extra(_zip(EICAR), b"harmless")),
        (b"br", _brotli_with_metadata(_zip(EICAR))),
    ],
)
def test_rejects_a_zip_beside_what_the_coding_shows(coding: bytes, coded: bytes) -> None:
    assert zipfile.ZipFile(io.BytesIO(coded)).read("a.com") == EICAR
    shown = gzip.decompress(coded) if coding == b"gzip" else brotli.decompress(coded)
    assert EICAR not in shown
    for size in (len(coded) + 200, 7):
        message = answer(coded, b"Content-Encoding: " + coding)
        driven = Driven().feed(UP, GET)
        for start in range(0, len(message), size):
            driven.feed(DOWN, message[start : start + size])
            if driven.cut:
                break
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
    coded = _gzip_with_extra(hidden, shown)
    driven = exchange([(UP, GET), (DOWN, answer(coded, b"Content-Encoding: gzip"))])
    assert driven.cut is not None
    assert driven.cut.check == "coding-archive"


def _counted_from(data: bytes, place: int) -> bytes:
    """Have a zip of one file count its places from so many bytes before it."""
    out = bytearray(data)
    end, entry = data.rindex(b"PK\x05\x06"), data.index(b"PK\x01\x02")
    for at in (end + 16, entry + 42):
        out[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + place).to_bytes(4, "little")
    return bytes(out)


@pytest.mark.parametrize("place", [0, 12])
def test_rejects_a_hidden_zip_whose_directory_stands_amid_what_is_shown(place: int) -> None:
    hidden = _counted_from(_zip(EICAR), place)
    directory = hidden[hidden.index(b"PK\x01\x02") :]
    for shown in (
        b"harmless" + directory + b"PK\x05\x06" + bytes(18),
        b"harmless" + directory + b" and more",
    ):
        coded = _gzip_with_extra(hidden, shown)
        assert zipfile.ZipFile(io.BytesIO(coded)).read("a.com") == EICAR
        driven = exchange([(UP, GET), (DOWN, answer(coded, b"Content-Encoding: gzip"))])
        assert driven.cut is not None


def test_what_only_looks_like_an_end_is_none() -> None:
    for text in (b"PK\x05\x06", b"x" * 50 + b"PK\x05\x06" + bytes(40), b"PK\x05\x06" + b"\xff" * 40):
        assert not _ends_as_zip(text)


def test_pieces_make_no_difference() -> None:
    data = random.randbytes(100_000) + _zip(EICAR) + b"comment"
    for size in (1 << 20, 70_000, 999, 13):
        assert _ends_as_zip(data, size)
