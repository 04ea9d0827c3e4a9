"""Tars that programs walk differently, and archives that go on: opened whole or refused; ordinary ones pass."""

import gzip
import io
import lzma
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.filters.inspection.drive import EICAR
from tests.filters.inspection.test_archive_disguises import found, written
from tests.filters.inspection.test_objects import tarred

AMBIGUOUS = {"archive-ambiguous"}
END = bytes(1024)
BAD = gzip.compress(EICAR)


def header(
    name: bytes, size: int = 0, kind: bytes = b"0", field: bytes = b"", total: bytes = b"%06o\0 "
) -> bytes:
    block = bytearray(512)
    block[: len(name)], block[100:108], block[257:265] = name, b"0000644\0", b"ustar\x0000"
    field = field or b"%011o\0" % size
    block[124 : 124 + len(field)], block[156:157], block[148:156] = field, kind, b" " * 8
    block[148:156] = total % sum(block)
    return bytes(block)


def file(name: bytes, content: bytes, **said: bytes) -> bytes:
    return header(name, len(content), **said) + content + bytes(-len(content) % 512)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    return file(b"PaxHeaders/x", b"".join(b"%d %s\n" % (len(one) + 4, one) for one in records), kind=kind)


INNER = b"J" * 512 * 9 + file(b"evil.gz", BAD) + bytes(512)
COVER = header(b"big", len(INNER)) + INNER  # who skips so many bytes before it finds what is in it
REST = COVER + file(b"z", b"fine") + END
SKIPS = 512 * 10


def test_what_is_made_by_hand_is_ordinary() -> None:
    assert found(file(b"a", b"fine") + pax(b"path=long") + file(b"b", b"fine") + REST) == set()
    assert "malware.eicar" in found(file(b"a", b"fine") + file(b"evil.gz", BAD) + END)


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6", b"V"])
def test_rejects_content_of_what_is_no_file(kind: bytes) -> None:
    assert found(header(b"first", SKIPS, kind) + REST) == AMBIGUOUS
    assert found(header(b"first", 0, kind) + REST) == set()


def test_rejects_content_of_a_name_with_a_slash_behind() -> None:
    for kind in (b"0", b"\0"):
        assert found(header(b"first/", SKIPS, kind) + REST) == AMBIGUOUS
    assert found(file(b"././@LongLink", b"first/\0", kind=b"L") + header(b"first", SKIPS) + REST) == AMBIGUOUS
    assert found(header(b"first/") + REST) == set()


@pytest.mark.parametrize("field", [b"\0%o\0" % SKIPS, b"%o x" % SKIPS, b"\t%o\0" % SKIPS, b"-%o\0" % SKIPS, b"+AAAAAAAAAQA", b"\xff" * 12, b"%o 7\0" % SKIPS])  # fmt: skip
def test_rejects_a_size_that_is_no_plain_number(field: bytes) -> None:
    assert found(header(b"first", field=field) + REST) & (AMBIGUOUS | {"archive-broken"})


def test_rejects_a_size_of_pax_that_is_another() -> None:
    for size, told in ((SKIPS, b"0"), (0, b"%d" % SKIPS), (SKIPS, b"x"), (SKIPS, b"-1")):
        assert found(pax(b"size=" + told) + header(b"first", size) + REST) == AMBIGUOUS, told
        assert found(pax(b"size=" + told, kind=b"g") + header(b"first", size) + REST) == AMBIGUOUS, told
    assert found(pax(b"size=0", b"size=4") + header(b"first") + REST) == AMBIGUOUS
    assert found(pax(b"size=4") + file(b"first", b"fine") + REST) == set()


def test_rejects_two_headers_of_pax_in_a_row() -> None:
    assert found(pax(b"size=0") + pax(b"path=q") + header(b"first") + REST) == AMBIGUOUS


def test_a_tar_with_a_wrong_sum_or_behind_something_is_one() -> None:
    assert found(file(b"evil.gz", BAD, total=b"%06ox ") + END) & {"archive-broken", "malware.eicar"}
    for blocks in (1, 3, 7):
        assert "malware.eicar" in found(b"J" * 512 * blocks + file(b"evil.gz", BAD) + END)
        assert found(b"J" * 512 * blocks + file(b"a", b"fine") + END) == set()


def test_ordinary_tars_pass() -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for name in ("a", "d/" + "long" * 24, "ü" * 20):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = 4, 1
                archive.addfile(info, io.BytesIO(b"fine"))
            for kind in (
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.DIRTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
            ):
                info = tarfile.TarInfo("t" + kind.decode())
                info.type, info.linkname = kind, "a"
                archive.addfile(info)
        assert found(out.getvalue()) == set(), form
    for kind in ("pax", "ustar", "gnutar", "v7tar"):
        assert found(written(kind, b"fine " * 900)) == set(), kind


@pytest.mark.skipif(not shutil.which("tar"), reason="GNU tar is not here")
def test_what_gnu_tar_writes_passes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"fine")
    (tmp_path / ("long" * 40)).write_bytes(b"fine")
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    (tmp_path / "soft").symlink_to("a")
    with (tmp_path / "sparse").open("wb") as sparse:
        for place in range(1, 30):
            sparse.seek(place << 16)
            sparse.write(b"x")
    for options in ([], ["-S"], ["--format=oldgnu", "-S"], ["--format=posix", "-S"], ["--format=posix", "-S", "--sparse-version=0.0"], ["-V", "label"]):  # fmt: skip
        data = subprocess.run(
            ["tar", "-c", *options, "-C", tmp_path, "."], capture_output=True, check=True
        ).stdout
        assert found(data) == set(), options


def test_a_cpio_behind_the_end_of_another_is_opened() -> None:
    """So Debian's initial RAM disk is made: the processor's microcode, then the rest, compressed."""
    first = written("cpio_newc", b"fine")
    for more in (written("cpio_newc", BAD), gzip.compress(written("cpio_newc", EICAR))):
        for between in (b"", bytes(512)):
            assert "malware.eicar" in found(first + between + more)
    for fine in (first + gzip.compress(first), first + first, first + bytes(900), first + b"words"):
        assert found(fine) == set()


def test_an_lzma_file_that_is_cut_off_or_tells_a_wrong_size_is_scanned() -> None:
    for properties in (0, 1, 3):
        ways = [{"id": lzma.FILTER_LZMA1, "lc": properties, "dict_size": 1 << 16}]
        content = b"fine " * 900 + EICAR
        data = lzma.compress(content, lzma.FORMAT_ALONE, filters=ways)
        for window in (0, 1, 2, 1024, 1 << 16):
            for size in (len(content), len(content) + 1, len(content) + 9000, (1 << 64) - 1):
                told = data[:1] + struct.pack("<IQ", window, size) + data[13:]
                assert "malware.eicar" in found(told), (window, size)


def test_rejects_a_gzip_of_the_old_sign() -> None:
    assert found(b"\x1f\x9e" + BAD[2:]) & {"archive-broken", "malware.eicar"}


def test_a_tar_in_a_tar_passes() -> None:
    inner = tarred({"a": b"fine"}, "w:")
    assert found(tarred({"a.tar": inner, "b.tar": inner}, "w:")) == set()
