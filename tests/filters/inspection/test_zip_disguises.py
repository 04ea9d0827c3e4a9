"""Zips that say two things: whatever one program reads in them is judged, or the zip is refused; ordinary ones pass."""

import io
import shutil
import stat
import struct
import subprocess
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.filters.inspection.drive import EICAR
from tests.filters.inspection.test_archive_disguises import found, written
from tests.filters.inspection.test_objects import PNG, zipped

AMBIGUOUS = {"archive-ambiguous"}
CLEAN = zipped({"a.txt": b"fine", "b/": b"", "b/c.txt": b"this too, " * 90})


def raw(data: bytes) -> bytes:
    """Return data as deflate alone writes it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@dataclass
class Made:
    """A file in a zip that is made by hand: what its two headers say may differ."""

    content: bytes
    packed: bytes
    method: int = 8
    flags: int = 0
    name: bytes = b"a"
    local: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    behind: bytes = b""
    extra: bytes = b""

    def header(self, changed: dict[str, int]) -> bytes:
        said = {
            "flags": self.flags, "method": self.method, "crc": zlib.crc32(self.content), "packed": len(self.packed), "size": len(self.content),
        } | changed  # fmt: skip
        return struct.pack(
            "<HHHIIII",
            20,
            said["flags"],
            said["method"],
            0x21 << 16,
            said["crc"],
            said["packed"],
            said["size"],
        )


def put(*files: Made, comment: bytes = b"", between: bytes = b"") -> bytes:
    """Write a zip of such files."""
    data, directory = b"", b""
    for one in files:
        lengths = struct.pack("<HH", len(one.name), len(one.extra))
        directory += (
            b"PK\1\2\x14\0" + one.header(one.told) + struct.pack("<H", len(one.name)) + bytes(12)
            + struct.pack("<I", len(data)) + one.name
        )  # fmt: skip
        data += b"PK\3\4" + one.header(one.local) + lengths + one.name + one.extra + one.packed + one.behind
    data += between
    sizes = (len(files), len(files), len(directory), len(data), len(comment))
    return data + directory + b"PK\5\6" + bytes(4) + struct.pack("<HHIIH", *sizes) + comment


def bad(**said: object) -> Made:
    return Made(EICAR, raw(EICAR), **said)  # type: ignore[arg-type]


def fine(**said: object) -> Made:
    return Made(b"fine", raw(b"fine"), **said)  # type: ignore[arg-type]


def test_files_made_by_hand_are_ordinary() -> None:
    assert found(put(fine(), fine(name=b"b"))) == set()
    assert "malware.eicar" in found(put(fine(), bad(name=b"b")))


def test_rejects_a_file_that_its_header_calls_stored_and_the_directory_packed() -> None:
    packed = raw(EICAR)
    local = {"method": 0, "size": len(packed), "crc": zlib.crc32(packed)}
    data = put(bad(local=local))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("a") == EICAR
    assert found(data) == AMBIGUOUS


@pytest.mark.parametrize("word", ["method", "crc", "packed", "size", "flags"])
def test_rejects_headers_that_disagree(word: str) -> None:
    for value in {"flags": (0x800, 8), "method": (0, 12)}.get(word, (0, 1, 0xFFFFFFFF)):
        assert found(put(fine(local={word: value}))) == AMBIGUOUS, value
    assert found(put(fine(local={"flags": 6}))) == set()  # how hard it was packed


def test_rejects_a_file_that_hides_behind_a_small_size() -> None:
    hidden = put(bad(name=b"b"))
    inner = raw(b"fine")
    one = Made(b"fine", inner + hidden, local={"packed": len(inner)})
    assert found(put(one)) == AMBIGUOUS
    one = Made(b"fine", inner + hidden, flags=8, local={"packed": 0, "size": 0, "crc": 0})
    assert found(put(one)) == AMBIGUOUS  # who reads without the directory goes on where the first one ends


def test_rejects_an_early_directory_before_a_long_comment() -> None:
    stop = b"PK\1\2" + bytes(42)
    data = put(fine(behind=stop), bad(name=b"b"), comment=b"c" * (17 << 10))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("b") == EICAR
    assert found(data) == AMBIGUOUS
    assert "malware.eicar" in found(put(fine(), bad(name=b"b"), comment=b"c" * (17 << 10)))
    assert found(put(fine(), comment=b"c" * (60 << 10))) == set()


@pytest.mark.parametrize("sign", [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\7\x08"])
def test_rejects_signs_of_a_zip_between_files_and_in_the_comment(sign: bytes) -> None:
    assert found(put(fine(behind=b"x" + sign), fine(name=b"b"))) == AMBIGUOUS
    assert found(put(fine(), between=sign + bytes(90))) == AMBIGUOUS
    assert found(put(fine(), comment=sign + b"x" * 30)) & {"archive-ambiguous", "archive-broken"}
    assert found(put(fine(behind=b"PK\7 x"), between=b"PK PK")) == set()


def test_rejects_an_end_that_tells_of_another_directory() -> None:
    directory = CLEAN[CLEAN.index(b"PK\1\2") : CLEAN.index(b"PK\5\6")]
    two = CLEAN[: CLEAN.index(b"PK\1\2")] + directory + CLEAN[CLEAN.index(b"PK\1\2") :]
    assert found(two) == AMBIGUOUS
    assert found(PNG + two) == AMBIGUOUS
    counted = bytearray(CLEAN)
    counted[CLEAN.index(b"PK\5\6") + 10] += 1
    assert found(bytes(counted)) == AMBIGUOUS


def test_a_second_end_right_before_the_last_bytes_hides_no_zip() -> None:
    data = bytearray(zipped({"a": EICAR}))
    data[-18:-14] = b"PK\5\6"  # numbers of discs, that most programs leave unread
    assert found(PNG + bytes(data)) in (AMBIGUOUS, {"archive-broken"})


def test_what_a_zip_calls_a_link_is_read() -> None:
    for packed in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for content, wanted in ((EICAR, "malware.eicar"), (b"../a/target", "")):
            out, info = io.BytesIO(), zipfile.ZipInfo("link")
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            with zipfile.ZipFile(out, "w") as archive:
                archive.writestr(info, content, packed)
            assert found(out.getvalue()) & {"malware.eicar"} == {wanted} - {""}
    assert found(out.getvalue()) == set()
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(long := io.BytesIO(), "w") as archive:
        archive.writestr(info, b"x" * 9000, zipfile.ZIP_DEFLATED)
    assert found(long.getvalue()) & {"archive-ambiguous", "archive-broken"}


def streamed(content: bytes) -> bytes:
    """Return a zip as who can't go back writes it."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.out = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.out += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", content)
        archive.writestr("b/", b"")
        with archive.open("b/c", "w", force_zip64=True) as inner:
            inner.write(content)
        archive.writestr("stored", content, zipfile.ZIP_STORED)
    return bytes(pipe.out)


def test_ordinary_zips_of_all_kinds_pass() -> None:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive,
        archive.open("a", "w", force_zip64=True) as one,
    ):
        one.write(b"fine " * 50)
    signing = (
        (len(PNG) + 24).to_bytes(8, "little")
        + PNG
        + (len(PNG) + 24).to_bytes(8, "little")
        + b"APK Sig Block 42"
    )
    shift = len(signing)
    end = CLEAN.index(b"PK\5\6")
    directory = CLEAN.index(b"PK\1\2")
    place = (directory + shift).to_bytes(4, "little")
    apk = CLEAN[:directory] + signing + CLEAN[directory : end + 16] + place + CLEAN[end + 20 :]
    ordinary = {
        "streamed": streamed(b"fine " * 90), "zip64": out.getvalue(), "apk": apk, "libarchive": written("zip", b"fine " * 90), "nothing": zipped({}),
        "aligned": put(fine(extra=bytes(5)), fine(name=b"b", extra=b"\xfe\xca\0\0")), "inner": zipped({"a.jar": CLEAN, "b.docx": CLEAN}, compresslevel=0),
        "names": zipped({"ümlaut/機.txt": b"x", "__MACOSX/._a": b"\0\5\x16\7", "a": b"x", "back\\slash": b"x"}),
        "numbers behind, unsigned": put(fine(flags=8, local={"packed": 0, "size": 0, "crc": 0}, behind=struct.pack("<III", zlib.crc32(b"fine"), 6, 4)), fine(name=b"b")),
    }  # fmt: skip
    for name, data in ordinary.items():
        assert found(data) == set(), name
        assert found(PNG + data) == set(), f"{name} behind a picture"
    assert "malware.eicar" in found(streamed(EICAR))


@pytest.mark.skipif(not shutil.which("zip"), reason="Info-ZIP is not here")
def test_what_info_zip_writes_passes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine " * 90)
    (tmp_path / "empty").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("a.txt")
    for options in (["-r"], ["-ry"], ["-r0"], ["-r", "-fz"], ["-r", "-fd"]):
        for to in ("-", str(tmp_path / "out.zip")):
            if to == "-" and options in (["-ry"], ["-r", "-fz"]):
                continue  # it can't, or writes what nobody can read
            said = subprocess.run(["zip", "-q", *options, to, "a.txt", "empty", "d", "link"], cwd=tmp_path, capture_output=True, check=True)  # fmt: skip
            data = said.stdout if to == "-" else Path(to).read_bytes()
            Path(to).unlink(missing_ok=True)
            assert found(data) == set(), (options, to)


def test_rejects_a_stored_file_that_ends_early_for_who_reads_without_the_directory() -> None:
    def behind(content: bytes) -> bytes:
        return b"PK\7\x08" + struct.pack("<III", zlib.crc32(content), len(content), len(content))

    def stored(content: bytes) -> bytes:
        told = {"packed": 0, "size": 0, "crc": 0}
        return put(
            Made(content, content, method=0, flags=8, local=told, behind=behind(content)), fine(name=b"b")
        )

    for first in (b"fine", b"", b"PK\7\x08 fine" * 9):
        assert found(stored(first + behind(first) + b"PK\3\4 and more")) == AMBIGUOUS, first
    for content in (b"fine", b"fine PK\7\x08" * 900, b"fine" + behind(b"other"), streamed(b"fine " * 90)):
        assert found(stored(content)) == set(), content[:20]
    assert found(stored(b"PK\7\x08" * 70_000)) == AMBIGUOUS


def test_a_directory_of_too_many_files_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = put(*(fine(name=b"%d" % one) for one in range(2001)))
    assert found(put(*(fine(name=b"%d" % one) for one in range(1999)))) == set()
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert found(data) == {"members"}
