"""Zips behind something else, with an odd end, or with numbers that are told twice: opened or refused, whoever reads them."""

import io
import random
import sqlite3
import struct
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from filters.inspection.objects.archive_kinds import is_archive
from filters.inspection.objects.as_sent import AsSent, hides_archive
from tests.filters.inspection.drive import EICAR, SPEC, toolbox
from tests.filters.inspection.test_archive_disguises import found, written
from tests.filters.inspection.test_objects import PNG, tarred, zipped
from tests.filters.inspection.test_zip_disguises import AMBIGUOUS, Made, bad, fine, put, raw, streamed

MALWARE = {"malware.eicar", "yara.eicar_test_file"}
SHUT = AMBIGUOUS | {"archive-broken"}
BEFORE = {"a byte": b"\n", "a picture": PNG, "a mark": b"PK00", "a program": b"MZ" + bytes(600)}
NOISE = random.Random(3).randbytes(90_000)


def shifted(before: bytes, data: bytes, *, size: int = 0, behind: bytes = b"", gap: bytes = b"") -> bytes:
    """Put bytes before a zip whose end counts them, and says a size that may be wrong."""
    end, directory = data.index(b"PK\5\6"), data.index(b"PK\1\2")
    count, place = data[end + 8 : end + 12], directory + len(before)
    entries = bytearray(data[directory:end])
    at = entries.find(b"PK\1\2")
    while at >= 0:
        counted = struct.unpack_from("<I", entries, at + 42)[0] + len(before)
        struct.pack_into("<I", entries, at + 42, counted)
        at = entries.find(b"PK\1\2", at + 1)
    return (
        before + data[:directory] + entries + gap + b"PK\5\6" + bytes(4) + count + struct.pack("<II", end - directory + size, place) + bytes(2) + behind
    )  # fmt: skip


@pytest.mark.parametrize("before", BEFORE)
def test_rejects_a_zip_behind_something_whose_end_tells_a_wrong_size(before: str) -> None:
    for size in (-1, 1, -40, 1 << 20):
        assert found(shifted(BEFORE[before], put(bad()), size=size)) & SHUT, size


def test_rejects_a_byte_before_the_end_of_a_zip_behind_something() -> None:
    for gap in (b"x", bytes(3), b"PK"):
        assert found(shifted(b"\n", put(bad()), gap=gap)) & SHUT, gap


def test_rejects_a_false_end_in_the_comment_of_a_zip_behind_something() -> None:
    data = shifted(b"\n", put(bad()))
    assert found(data[:-2] + struct.pack("<H", 22) + b"PK\5\6" + bytes(16) + b"\xff\xff") & SHUT
    assert found(data[:-2] + struct.pack("<H", len(data)) + data) & SHUT  # both fit


@pytest.mark.parametrize("more", [65_558, 70_000, 80_000, 300_000])
def test_a_zip_with_much_behind_its_end_is_opened(more: int) -> None:
    for before in BEFORE.values():
        assert found(shifted(before, put(bad()), behind=bytes(more))) & (MALWARE | SHUT)
    assert found(shifted(PNG, put(fine()), behind=bytes(more))) == set()
    assert found(shifted(PNG, put(Made(EICAR, EICAR, method=0)), behind=NOISE)) & MALWARE


def test_rejects_a_file_before_the_first_that_the_directory_names() -> None:
    for before in (b"PK00", b"\n", PNG):
        for hidden in (bad(name=b"evil"), Made(EICAR, EICAR, method=0)):
            local = put(hidden)[: put(hidden).index(b"PK\1\2")]
            assert found(shifted(before + local, put(fine()))) >= AMBIGUOUS, before


@pytest.mark.parametrize("where", ["a picture", "a program"])
def test_what_has_a_file_of_a_zip_and_no_directory_is_read_like_a_stream(where: str) -> None:
    for one in (bad(), Made(EICAR, EICAR, method=0), bad(flags=8, local={"packed": 0, "size": 0, "crc": 0})):
        local = put(one)[: put(one).index(b"PK\1\2")]
        assert "malware.eicar" in found(BEFORE[where] + local + NOISE)
        assert "malware.eicar" in found(BEFORE[where] + put(fine()) + NOISE + put(one) + NOISE)
    inner = zipped({"x": EICAR})
    stored = put(Made(inner, inner, method=0))
    assert "malware.eicar" in found(BEFORE[where] + stored[: len(inner) + 40] + NOISE)
    for odd in (bad(local={"flags": 1}), bad(local={"method": 12})):
        assert found(BEFORE[where] + put(odd) + NOISE) == AMBIGUOUS


def test_ordinary_things_with_zips_in_them_pass(tmp_path: Path) -> None:
    clean, pipe = zipped({"a": b"fine", "b": NOISE[:3000], "b/": b""}), streamed(b"fine " * 90)
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute("create table x(a, b)")
        database.executemany("insert into x values(?, ?)", [(1, clean), (2, pipe), (3, NOISE), (4, pipe)])
    ordinary = {
        "sqlite": (tmp_path / "s.db").read_bytes(), "program": BEFORE["a program"] + clean + NOISE + pipe + NOISE, "tar": tarred({"a.zip": clean, "b.zip": pipe, "c": NOISE}, "w:"),
        "7z": written("7zip", clean), "cpio": written("cpio_newc", PNG + clean + NOISE), "ar": written("ar_svr4", PNG + clean + NOISE), "iso": written("iso9660", PNG + clean + NOISE),
        "stub": BEFORE["a program"] + b"PK\5\6 PK\3\4 PK\1\2" + clean, "words": b"words PK\3\4, PK\1\2 and PK\5\6 are signs", "broken off": PNG + clean[:90] + NOISE,
    }  # fmt: skip
    for packer in ("xz", "zstd", "lz4", "lzip", "gzip", "bzip2"):
        ordinary[packer] = written(
            "raw", tarred({"a.zip": clean, "b.zip": clean, "c.zip": put(fine())}, "w:"), packed=packer
        )
    for name, data in ordinary.items():
        assert found(data) == set(), name
    assert "malware.eicar" in found(tarred({"a.zip": clean, "b.zip": zipped({"a": EICAR})}, "w:"))


def wide(*numbers: int, times: int = 1) -> bytes:
    return (struct.pack("<HH", 1, 8 * len(numbers)) + struct.pack(f"<{len(numbers)}Q", *numbers)) * times


def test_rejects_numbers_of_zip64_that_are_told_twice_or_unasked() -> None:
    asked = {"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF}
    packed = len(raw(b"fine"))
    assert found(put(fine(local=asked, extra=wide(4, packed)), fine(name=b"b"))) == set()
    assert found(put(fine(extra=wide(4, packed)))) == set()
    for local, extra in ((asked, wide(4, packed) + wide(1, 1)), (asked, wide(4, packed, times=2)), ({}, wide(1, packed)), ({}, wide(4, 900)), ({}, wide(9))):  # fmt: skip
        assert found(put(fine(local=local, extra=extra), fine(name=b"b"))) == AMBIGUOUS, extra


def in_directory(data: bytes, extra: bytes) -> bytes:
    """Give the only entry of a zip's directory an extra field, or a comment that begins like one."""
    at, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry = data[at:end]
    entry = entry[:30] + struct.pack("<H", len(extra)) + entry[32:] + extra
    tail = bytearray(data[end:])
    tail[12:16] = struct.pack("<I", len(entry))
    return data[:at] + entry + bytes(tail)


def test_rejects_numbers_of_zip64_twice_or_unasked_in_the_directory() -> None:
    packed = len(raw(b"fine"))
    assert found(in_directory(put(fine()), wide(4, packed, 0))) == set()
    for extra in (wide(4, packed, times=2), wide(4, packed + 1), wide(4, packed, 7)):
        assert found(in_directory(put(fine()), extra)) & SHUT, extra


def test_rejects_a_header_in_an_extra_field_of_the_directory() -> None:
    local = put(bad())[: put(bad()).index(b"PK\1\2")]
    assert found(in_directory(put(fine()), struct.pack("<HH", 0xCAFE, len(local)) + local)) == AMBIGUOUS
    assert found(in_directory(put(fine()), struct.pack("<HH", 0xCAFE, 4) + b"PK\3\4")) == set()


def test_rejects_narrow_numbers_behind_a_file_with_numbers_of_zip64() -> None:
    later, packed = {"packed": 0, "size": 0, "crc": 0}, len(raw(b"fine"))
    for form, extra, passes in (("III", b"", True), ("IQQ", wide(0, 0), True), ("III", wide(0, 0), False), ("IQQ", b"", False)):  # fmt: skip
        for sign in (b"PK\7\x08", b""):
            behind = sign + struct.pack("<" + form, zlib.crc32(b"fine"), packed, 4)
            data = put(fine(flags=8, local=later, behind=behind, extra=extra), fine(name=b"b"))
            # without a sign nothing tells the numbers from other bytes between two files
            assert found(data) == (set() if passes or not sign else AMBIGUOUS), (form, extra, sign)


def test_rejects_a_zip_on_several_discs() -> None:
    data, end = put(fine()), put(fine()).index(b"PK\5\6")
    for place in (4, 6):
        for value in (b"\1\0", b"\xff\xff"):
            assert found(data[: end + place] + value + data[end + place + 2 :]) & SHUT
    assert found(data[: end + 8] + b"\2\0" + data[end + 10 :]) & SHUT


def test_a_stored_file_with_numbers_and_a_header_inside_is_read_from_there() -> None:
    local = put(bad())[: put(bad()).index(b"PK\1\2")]
    for length in (8, 12, 16, 20):
        content = b"A" * 16 + b"PK\7\x08" + bytes(length) + local
        later = {"packed": 0, "size": 0, "crc": 0}
        behind = b"PK\7\x08" + struct.pack("<III", zlib.crc32(content), len(content), len(content))
        assert found(put(Made(content, content, method=0, flags=8, local=later, behind=behind))) & (
            MALWARE | SHUT
        )


def test_an_empty_file_packed_with_lzma_passes() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in (("a", b""), ("b", b"fine"), ("c", b"")):
            archive.writestr(name, content)
    assert found(out.getvalue()) == set()
    with zipfile.ZipFile(out, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("d", EICAR)
    assert "malware.eicar" in found(out.getvalue())


def test_coded_bytes_with_an_odd_zip_are_an_archive() -> None:
    data = shifted(b"\n", put(bad()), size=-1)
    assert hides_archive(AsSent("br", data), b"other")
    assert not hides_archive(AsSent("br", data), data)


def test_a_crowd_of_headers_is_not_unpacked_one_by_one() -> None:
    local = put(fine())[:30] + b"a"
    packed = b"\0" + struct.pack("<HH", len(local) + 1, 0xFFFE - len(local)) + b"x" + local
    data = b"\n" + local + packed * 1000 + b"\0\0\0\xff\xff" * (4 << 18)
    begun = time.process_time()
    assert found(data) & {"archive-ambiguous", "members"}
    assert time.process_time() - begun < 9
    noise = random.Random(4).randbytes(4 << 20)
    begun = time.process_time()
    assert not is_archive(noise)
    assert time.process_time() - begun < 0.1


def test_zips_that_are_uploaded_together_pass() -> None:
    clean, kind = zipped({"a": b"fine", "b": NOISE[:500]}), "multipart/form-data; boundary=xyz"

    def form(*files: bytes) -> bytes:
        head = b'--xyz\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
        return b"".join(head + one + b"\r\n" for one in files) + b"--xyz--\r\n"

    judge = toolbox().judge(SPEC)
    for files in ((clean, put(fine())), (clean, streamed(b"fine " * 90), PNG), (clean, b"words " * 30_000)):
        assert judge.judge(form(*files), "x", kind) == []
    for files in ((clean, zipped({"a": EICAR})), (zipped({"a": EICAR}), clean)):
        assert "malware.eicar" in {one.check for one in judge.judge(form(*files), "x", kind)}
    hidden = b"x" + put(bad())[: put(bad()).index(b"PK\1\2")] + clean
    assert judge.judge(form(clean, hidden), "x", kind)


def test_a_zip_with_the_headers_of_one_that_is_shown_is_opened_all_the_same() -> None:
    """Sums can be forged: who has the same header need not have the same content."""
    decoy = b"y" * len(EICAR)
    shown = put(Made(decoy, decoy, method=0, local={"crc": 7}, told={"crc": 7}))
    odd = put(Made(EICAR, raw(EICAR), local={"crc": 7}, told={"crc": 7}))
    held = tarred({"a.zip": b"x" + shown + bytes(80_000)}, "w:")
    for one in (odd, odd[: odd.index(b"PK\1\2")] + bytes(80_000)):
        assert found(held + one + bytes(512)) != set()
