"""What stays here of an object until it was judged: an archive is never judged, and delivered, before it is whole."""

import gzip
import tempfile
import time
import zlib
from collections.abc import Iterable
from typing import IO

import pytest
import zstandard

from filters.inspection.coding.decoder import Stack
from filters.inspection.limits import DEFAULT_LIMITS
from filters.inspection.objects.holding import IN_MEMORY, ObjectStore, is_binary
from tests.filters.inspection.drive import DOWN, EICAR, GET, UP, Driven, answer
from tests.filters.inspection.test_archive_disguises import BEFORE, PACKERS, written
from tests.filters.inspection.test_archive_signs import rar4, rar5, skipped, v7
from tests.filters.inspection.test_http import CODERS
from tests.filters.inspection.test_objects import tarred, zipped

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD = gzip.compress(EICAR, mtime=0)
ZIP, SEVEN = zipped({"a": EICAR}), written("7zip", EICAR)
ARCHIVES = {
    "zip": ZIP, "7z": SEVEN, "tar": tarred({"a": BAD}, "w:"), "old tar": v7(b"a", BAD, signed=True), "cpio": written("cpio", BAD), "newc": written("cpio_newc", BAD),
    "iso": written("iso9660", BAD), "rar4": rar4(b"a", BAD), "rar5": rar5(b"a", BAD), "ar": written("ar_svr4", BAD), "skipped": skipped(b"x" * 50000) + PACKERS["zstd"](EICAR),
    **{f"{one} behind {name}": before + data for name, before in BEFORE.items() for one, data in (("zip", ZIP), ("7z", SEVEN), ("rar", rar5(b"a", BAD)))},
    **{name: pack(EICAR) for name, pack in PACKERS.items()},
}  # fmt: skip


def sent(pieces: Iterable[bytes]) -> Driven:
    """Send chunks with a pause after each; the end comes last, alone."""
    driven = Driven().feed(UP, GET).feed(DOWN, HEAD)
    for one in pieces:
        driven.feed(DOWN, b"%x\r\n%s\r\n" % (len(one), one))
        if driven.cut is None:
            driven.pause(DOWN)
    return driven.feed(DOWN, b"0\r\n\r\n")


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_not_delivered_whole_before_it_is_opened(name: str) -> None:
    data = ARCHIVES[name]
    for cut in (0, 1, 2, 5, 100, len(data) - 30, len(data) - 1):
        driven = sent(one for one in (data[:cut], data[cut:]) if one)
        assert "malware.eicar" in driven.checks, cut
        first = b"%x\r\n%s\r\n" % (cut, data[:cut]) if cut else b""
        assert len(driven.out[DOWN]) <= len(HEAD + first) + 12, cut  # and how long the next chunk is
        assert driven.cut is not None


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_codings_end_does_not_set_an_archive_free(coding: str) -> None:
    pack = zstandard.ZstdCompressor(write_checksum=True).compress if coding == "zstd" else CODERS[coding]
    asked = GET.replace(b"Host", b"Accept-Encoding: br, zstd\r\nHost")
    driven = Driven().feed(UP, asked)
    for one in answer(pack(ZIP), b"Content-Encoding: " + coding.encode()):
        driven.feed(DOWN, bytes([one]))
    assert "malware.eicar" in driven.checks
    body = bytes(driven.out[DOWN]).partition(b"\r\n\r\n")[2]
    assert b"".join(Stack([coding], DEFAULT_LIMITS).feed(body)) != ZIP


def test_an_event_of_a_coded_stream_goes_on_at_once() -> None:
    """Its coder's end of a flush may come in a segment of its own."""
    packer = zlib.compressobj(wbits=31)
    driven = Driven().feed(UP, GET)
    driven.feed(DOWN, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n")
    for number in range(20):
        flushed = packer.compress(b"data: event %d of many\n\n" % number) + packer.flush(zlib.Z_SYNC_FLUSH)
        driven.feed(DOWN, flushed[:-2])
        driven.feed(DOWN, flushed[-2:])
        assert len(driven.out[DOWN]) >= len(driven.sent[DOWN]) - 2
    assert driven.findings == []


def test_an_archive_behind_much_text_is_held() -> None:
    for data in (ZIP, SEVEN, rar4(b"a", BAD)):
        driven = sent([b"#" * 600 + data])
        assert "malware.eicar" in driven.checks
        assert not driven.out[DOWN].count(b"#")
        halves = sent([b"#" * 600 + data[:3], data[3:]])
        assert data[3:] not in halves.out[DOWN]


def test_text_and_binary_that_is_no_archive_go_on_after_a_pause() -> None:
    for one in (
        b"data: an event\n\n",
        bytes(range(256)) * 9,
        b"text about PK and Rar!\n",
        b"\0" * 4096,
        b"\x08frame",
    ):
        driven = Driven().feed(UP, GET).feed(DOWN, HEAD)
        for _ in range(3):
            driven.feed(DOWN, b"%x\r\n%s\r\n" % (len(one), one)).pause(DOWN)
            assert driven.out[DOWN] == driven.sent[DOWN]
        assert driven.findings == []


def test_text_does_not_lag() -> None:
    store = ObjectStore(DEFAULT_LIMITS)
    store.begin("x", "text/plain", wanted=True)
    for place in range(90):
        store.new_piece(place)
        line = "Zeile für Zeile\t\x1b[1m!\r\n".encode()
        store.look(line)
        store.add(line)
    assert not store.lagging
    store.add(b"words " * 200 + b"\0")
    assert store.lagging


def test_looking_through_text_is_quick() -> None:
    text = b"words, and more of them\n" * (1 << 19)
    start = time.perf_counter()
    assert not is_binary(text)
    assert time.perf_counter() - start < 0.5  # 12 MiB


def test_an_object_that_comes_byte_by_byte_is_quick() -> None:
    store = ObjectStore(DEFAULT_LIMITS)
    store.begin("x", "", wanted=True)
    start = time.perf_counter()
    for place in range(60000):
        store.new_piece(place)
        store.look(b"\7")
        store.add(b"\7")
    assert time.perf_counter() - start < 5


def test_keeps_small_objects_in_memory_and_large_ones_in_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[IO[bytes]] = []
    really = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: (opened.append(really()), opened[-1])[1])
    monkeypatch.delattr(tempfile, "SpooledTemporaryFile")
    store = ObjectStore(DEFAULT_LIMITS)
    pieces = [bytes([one]) * (IN_MEMORY // 2) for one in range(5)]
    for count, files in ((2, 0), (5, 1), (1, 1)):
        store.begin("x", "", wanted=True)
        for one in pieces[:count]:
            store.add(one)
            assert store.so_far().endswith(one)
        assert store.so_far() == b"".join(pieces[:count])
        assert len(opened) == files
        store.end()
        assert store.so_far() == b""
    assert opened[0].closed
