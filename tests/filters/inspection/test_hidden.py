"""A zip in what is passed on coded: where decoding does not show it."""

import gzip
import io
import random
import zipfile
import zlib

import brotli
import pytest

from filters.inspection.coding.hidden import Tail
from tests.filters.inspection.drive import DOWN, EICAR, GET, UP, Driven, answer


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


def test_what_only_looks_like_an_end_is_none() -> None:
    for text in (b"PK\x05\x06", b"x" * 50 + b"PK\x05\x06" + bytes(40), b"PK\x05\x06" + b"\xff" * 40):
        tail = Tail()
        tail.add(text)
        assert not tail.ends_as_zip()


def test_pieces_make_no_difference() -> None:
    data = random.randbytes(100_000) + _zip(EICAR) + b"comment"
    for size in (1 << 20, 70_000, 999, 13):
        tail = Tail()
        for start in range(0, len(data), size):
            tail.add(data[start : start + size])
        assert tail.ends_as_zip()
