"""Archives that libmagic takes for something else, or that go on where libarchive ends: opened, or refused."""

import gzip
import lzma
import struct
import tarfile
import time
import zlib
from collections.abc import Iterable

import magic
import pytest

from filters.inspection.objects.archive_kinds import is_archive, is_tar, kinds
from filters.inspection.objects.file_type import file_type
from tests.filters.inspection.drive import EICAR, SPEC, toolbox
from tests.filters.inspection.test_archive_disguises import BEFORE, PACKERS, found, written
from tests.filters.inspection.test_objects import PNG, tarred, zipped
from tests.filters.inspection.test_protocols import mail
from tests.filters.inspection.test_zip_disguises import raw

AMBIGUOUS = "archive-ambiguous"


def test_a_gzip_that_libmagic_takes_for_a_book_is_opened() -> None:
    extra = bytes(48) + b"BOOKMOBI"
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\3" + struct.pack("<H", len(extra)) + extra
    data = head + raw(EICAR) + struct.pack("<II", zlib.crc32(EICAR), len(EICAR))
    assert magic.from_buffer(data, mime=True) == "application/x-mobipocket-ebook"
    assert gzip.decompress(data) == EICAR
    assert "malware.eicar" in found(data)


def rar4(name: bytes, content: bytes) -> bytes:
    """A RAR of version 4 with one file, stored."""

    def block(kind: int, flags: int, rest: bytes) -> bytes:
        said = struct.pack("<BHH", kind, flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(said) & 0xFFFF) + said

    file = struct.pack("<IIBIIBBHI", len(content), len(content), 3, zlib.crc32(content), 0x21 << 16, 20, 0x30, len(name), 0o644) + name  # fmt: skip
    return (
        b"Rar!\x1a\x07\0"
        + block(0x73, 0, bytes(6))
        + block(0x74, 0x8000, file)
        + content
        + block(0x7B, 0x4000, b"")
    )


def rar5(name: bytes, content: bytes) -> bytes:
    """A RAR of version 5 with one file, stored."""

    def block(said: bytes) -> bytes:
        whole = bytes([len(said)]) + said
        return struct.pack("<I", zlib.crc32(whole)) + whole

    size = bytes([len(content)])
    file = b"\2\2" + size + b"\4" + size + b"\x20" + struct.pack("<I", zlib.crc32(content)) + b"\0\1" + bytes([len(name)]) + name  # fmt: skip
    return b"Rar!\x1a\x07\1\0" + block(b"\1\0\0") + block(file) + content + block(b"\5\0\0")


@pytest.mark.parametrize("made", [rar4, rar5])
def test_a_rar_behind_something_else_is_opened(made: type) -> None:
    for name, before in {**BEFORE, "": b""}.items():
        assert "malware.eicar" in found(before + made(b"a.gz", gzip.compress(EICAR))), name
        assert found(before + made(b"a", b"fine")) == set(), name
    assert found(tarred({"a.rar": made(b"a", b"fine")}, "w:")) == set()


def test_a_rar_is_known_by_its_sum() -> None:
    """Programs that unpack RAR have its mark in them."""
    for mark in (b"Rar!\x1a\x07\0", b"Rar!\x1a\x07\1\0"):
        assert found(b"MZ" + bytes(90) + mark + b"s" * 90) == set()


def skipped(*frames: bytes) -> bytes:
    return b"".join(b"\x5a\x2a\x4d\x18" + struct.pack("<I", len(one)) + one for one in frames)


@pytest.mark.parametrize("packer", ["zstd", "lz4"])
def test_frames_that_are_passed_over_hide_nothing(packer: str) -> None:
    bad, fine = (PACKERS[packer](one) for one in (EICAR, b"fine " * 9))
    for before in (skipped(b"x" * 40), skipped(b"", b"y")):
        assert "malware.eicar" in found(before + bad)
        assert found(before + fine) == set()
        assert "malware.eicar" in found(before + fine + bad)
        assert found(fine + before + bad) & {"malware.eicar", AMBIGUOUS, "archive-broken"}
    assert found(skipped(b"only this") + b"text") == set()


@pytest.mark.parametrize(("lc", "lp", "pb"), [(3, 0, 2), (0, 2, 0), (4, 0, 4), (0, 0, 0), (1, 1, 1)])
def test_lzma_files_of_all_properties_are_opened(lc: int, lp: int, pb: int) -> None:
    ways = [{"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": 1 << 16}]
    for content, wanted in ((EICAR, {"malware.eicar"}), (b"fine " * 900, set()), (zipped({"a": EICAR}), {"malware.eicar"})):  # fmt: skip
        data = lzma.compress(content, lzma.FORMAT_ALONE, filters=ways)
        for window in (1 << 16, 0xFFFFFFFF):
            assert found(data[:1] + struct.pack("<I", window) + data[5:]) & {"malware.eicar"} == wanted


def test_what_has_the_numbers_of_an_lzma_file_by_chance_passes() -> None:
    for data in (
        bytes(900),
        b"\0\0\x10\0\0" + b"\xff" * 8 + bytes(900),
        b"\1\0\0\1\0" + b"\7" + bytes(900),
        b"\0" * 13,
    ):
        assert found(data) == set()


def v7(name: bytes, content: bytes, *, signed: bool) -> bytes:
    """A tar without the word `ustar`, its sum made of signed bytes."""
    block = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    block[:100], block[257:265], block[124:136] = name.ljust(100, b"\0"), bytes(8), b"%011o\0" % len(content)
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[1 if signed else 0]  # type: ignore[attr-defined]
    return bytes(block) + content + bytes(-len(content) % 512) + bytes(1024)


def test_an_old_tar_with_a_signed_sum_is_opened() -> None:
    for signed in (False, True):
        data = v7(b"gr\xfc\xdfe.gz", gzip.compress(EICAR), signed=signed)
        assert "malware.eicar" in found(data), signed
        assert found(v7(b"gr\xfc\xdfe", b"fine", signed=signed)) == set()
    assert "archive" in file_type(v7(b"gr\xfc\xdfe", b"fine", signed=True)).families


@pytest.mark.parametrize("packer", sorted(set(PACKERS) - {"compress"}))
def test_rejects_more_behind_what_is_compressed(packer: str) -> None:
    pack = PACKERS[packer]
    for first in (b"fine " * 9, b"") if packer != "lz4" else (b"fine " * 9,):
        for between in (b"\0", b"\0" * 7, b"junk!"):
            assert found(pack(first) + between + pack(EICAR)), (first, between)
        if packer not in {"zstd", "xz"}:  # these programs refuse what is no frame
            assert found(pack(first) + bytes(9000)) == set()
    if packer != "lzma":  # which has one
        assert "malware.eicar" in found(pack(b"fine " * 9) + pack(EICAR))
    assert (
        found(pack(b"fine " * 9) + b"\0" + pack(b"")) & {AMBIGUOUS, "archive-broken"}
        if packer != "lz4"
        else True
    )


def test_rejects_a_broken_file() -> None:
    for broken in (gzip.compress(EICAR * 90)[:-30], gzip.compress(EICAR)[:12] + b"\xff" * 30):
        assert "archive-broken" in found(broken)


def test_rejects_gzip_that_nothing_is_unpacked_from() -> None:
    """libarchive hands on what is packed in a way it doesn't know; the judge would open it for ever."""
    packed = gzip.compress(EICAR)
    for unknown in (packed[:2] + b"\x07" + packed[3:], packed[:3] + b"\xe0" + packed[4:]):
        assert found(unknown) == {"archive-broken"}


def test_rejects_a_tar_that_goes_on_behind_its_end() -> None:
    fine, bad = tarred({"a": b"fine"}, "w:"), tarred({"a.gz": gzip.compress(EICAR)}, "w:")
    for data in (fine[:1024] + bytes(512) + bad, bytes(512) + bad, fine + bad):
        assert found(data) == {AMBIGUOUS}
        assert found(gzip.compress(data)) == {AMBIGUOUS}
    for data in (fine, fine[:1024], fine[:1536], fine + bytes(9000), fine + b"padding" * 900, bytes(2048)):
        assert found(data) == set()


def test_rejects_a_stored_mail_deeper_than_objects_are_read() -> None:
    data, name = mail(EICAR), "a.eml"
    for _ in range(6):
        data, name = zipped({name: data}), "a.zip"
    assert "depth" in {one.check for one in toolbox().judge(SPEC).judge(data, "x")}


TEXTS: Iterable[bytes] = (
    b"BZh is how bzip2 begins", b"PK\3 is nothing", b"070707 is a number\n" * 9, b"MSCF means Microsoft Cabinet File", b"LZIP it", b"Rar!\x1a is not it", b"xar! " * 90,
    b"x -lh5- and more, see the manual\n" * 9, PNG, b"\x1f\x9d\xff", b"qq" + bytes(300), b"ustar" * 200, b"0000644\0" * 300, b" " * 4096, b"0" * 4096, bytes(70000),
)  # fmt: skip


def test_texts_about_archives_are_none() -> None:
    for text in TEXTS:
        assert not is_archive(text), text[:20]


def test_every_archive_is_known_without_libmagic() -> None:
    for kind in (
        "zip",
        "7zip",
        "cpio_newc",
        "cpio",
        "iso9660",
        "xar",
        "ar_svr4",
        "ustar",
        "pax",
        "v7tar",
        "gnutar",
    ):
        assert is_archive(written(kind, b"fine")), kind
    for name, pack in PACKERS.items():
        assert name in dict(kinds(pack(b"fine"), "")), name
        assert is_archive(pack(b"fine")), name


@pytest.mark.parametrize(
    "field", [bytes(8), b"\0" + bytes(6) + b"1", b" " * 8, b"\xff" * 7 + b"\xf0", b"\x80" + bytes(7)]
)
def test_sound_near_silence_is_no_tar(field: bytes) -> None:
    for told in range(-300, 300):  # what a sum would have to be for such a field
        block = bytearray(b"\1" * max(0, told) + bytes(512))[:512]
        block[:2], block[148:156] = b"\xff\xff", field
        assert not is_tar(bytes(block))
    samples = b"\xff" * (256 - 8) + bytes(264)  # signed, their sum with the field of blanks is near 0
    for count in range(512 - 8):
        block = bytearray(b"\xff" * count + bytes(512 - count))
        block[148:156] = field
        assert not is_tar(bytes(block)), count
    assert found(b"RIFF" + samples * 90) == set()


def test_a_tar_whose_sum_begins_with_a_zero_byte_is_one() -> None:
    """GNU tar passes over it."""
    block = bytearray(v7(b"a", b"", signed=False)[:512])
    block[148:156] = b"\0" + b"%06o\0" % tarfile.calc_chksums(bytes(block))[0]  # type: ignore[attr-defined]
    assert is_tar(bytes(block))


@pytest.mark.parametrize("said", [b"000000\0 ", b"     0\0 ", b"0000000\0", b"\0" + b"000000\0"])
def test_an_old_tar_whose_signed_sum_is_zero_is_opened(said: bytes) -> None:
    content = gzip.compress(EICAR)
    data = bytearray(v7(b"a.gz", content, signed=True))
    total = tarfile.calc_chksums(bytes(data[:512]))[1]  # type: ignore[attr-defined]
    while total:  # in the name, behind its end
        place, step = data.index(b"\0", 6, 100), min(total, 128)
        data[place], total = 256 - step, total - step
    data[148:156] = said
    assert is_tar(bytes(data[:512]))
    assert "malware.eicar" in found(bytes(data))


@pytest.mark.parametrize("sign", [skipped(b""), b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c"])
def test_a_crowd_of_signs_is_not_looked_at_one_by_one(sign: bytes) -> None:
    data = sign * ((8 << 20) // len(sign))
    begun = time.process_time()
    assert is_archive(data)
    assert time.process_time() - begun < 0.5
    assert found(data) & {"archive-broken", AMBIGUOUS}
    assert not is_archive(b"x" + b"Rar!\x1a\x07 and 7z\xbc\xaf\x27\x1c " * 900)
    assert not is_archive(b"x Rar!\x1a\x07\1\0") and not is_archive(
        b"x 7z\xbc\xaf\x27\x1c\0\4"
    )  # cut off: no sum
    assert AMBIGUOUS in found(skipped(b"") * 5000 + PACKERS["zstd"](EICAR))
    assert "malware.eicar" in found(skipped(b"") * 4000 + PACKERS["zstd"](EICAR))
