"""Archives that look like something else, and something else that looks like an archive: opened in every way there is."""

import bz2
import gzip
import io
import lzma
import tempfile
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

import libarchive
import pytest
import zstandard

from filters.inspection.objects.archive_kinds import kinds
from tests.filters.inspection.drive import EICAR, SECRET, SPEC, toolbox
from tests.filters.inspection.test_objects import PNG, tarred, zipped


def written(kind: str, content: bytes, *, packed: str = "") -> bytes:
    """Write an archive with libarchive."""
    with tempfile.NamedTemporaryFile() as out:
        with libarchive.file_writer(out.name, kind, packed or None) as archive:
            archive.add_file_from_memory("x", len(content), content)
        return Path(out.name).read_bytes()


def found(data: bytes) -> set[str]:
    judge = toolbox().judge(SPEC)
    return {one.check for one in (*judge.text(data, "x"), *judge.judge(data, "x"))}


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstandard.compress,
    **{one: lambda data, one=one: written("raw", data, packed=one) for one in ("compress", "lz4", "lzip")},  # type: ignore[misc]
}
# what readers that guess take for archives: text and secret behind it are read by whoever only unpacks
LOOKS = {
    "mtree": b"#mtree\n", "mtree, a file": b"#mtree\n./a type=file\n", "ar": b"!<arch>\n", "warc": b"WARC/1.0\r\n", "xar": b"xar!", "cpio": b"070701", "cab": b"MSCF",
    "lha": b"\x20\x00-lh5-", "uuencode": b"begin 644 a\n#86)C\n`\nend\n", "zip": b"PK\x03\x04", "zip's end": b"PK\x05\x06" + bytes(18), "rar": b"Rar!\x1a\x07\x00", "7z": b"7z\xbc\xaf\x27\x1c",
    "iso": bytes(32769) + b"CD001", "tar": bytes(257) + b"ustar", "rpm": b"\xed\xab\xee\xdb", "nothing": b"",
}  # fmt: skip
BEFORE = {
    "a picture": PNG, "a program": b"MZ" + bytes(600), "a script": b"#!/bin/sh\nexit\n", "text": b"some words\n" * 9, "a byte": b"\1", "a text of an end": b"PK\x05\x06 is how a zip ends",
    "pdf": b"%PDF-1.7\n" + b"%%EOF\n",
}  # fmt: skip


@pytest.mark.parametrize("packer", PACKERS)
def test_what_is_compressed_is_scanned_whatever_it_looks_like(packer: str) -> None:
    for name, start in LOOKS.items():
        packed = PACKERS[packer](start + b" key " + SECRET + b"\n")
        assert "secrets.aws-access-key" in found(packed), name
        in_front = PACKERS[packer](b"key " + SECRET + b"\n" + start)
        assert "secrets.aws-access-key" in found(in_front), name


@pytest.mark.parametrize("packer", PACKERS)
def test_archives_are_opened_inside_compressed_ones(packer: str) -> None:
    for data in (
        zipped({"a": EICAR}),
        tarred({"a": EICAR}),
        written("7zip", EICAR),
        written("cpio_newc", EICAR),
    ):
        assert "malware.eicar" in found(PACKERS[packer](data))
    assert found(PACKERS[packer](b"nothing in it " * 20)) == set()
    if packer != "lz4":  # libarchive's writer ends the whole process over nothing
        assert found(PACKERS[packer](b"")) == set()


def test_archives_behind_something_else_are_opened() -> None:
    for before, (kind, data) in product(
        BEFORE, {"zip": zipped({"a": EICAR}), "7z": written("7zip", EICAR)}.items()
    ):
        assert "malware.eicar" in found(BEFORE[before] + data), (before, kind)
        assert found(BEFORE[before]) == set(), before
    shifted = io.BytesIO(PNG)
    with zipfile.ZipFile(
        shifted, "a", zipfile.ZIP_DEFLATED
    ) as archive:  # its places count what stands before it
        archive.writestr("a", EICAR)
    assert "malware.eicar" in found(shifted.getvalue())
    for more in (b"\0" * 9, b"more", b"y" * 5000):
        assert "malware.eicar" in found(PNG + zipped({"a": EICAR}) + more)


def test_ordinary_archives_with_something_before_them_pass() -> None:
    clean = zipped({"a": b"fine", "b/": b"", "b/c": b"too"})
    for name, before in BEFORE.items():
        assert found(before + clean) == set(), name
        assert found(before + written("7zip", b"fine")) == set(), name
    app = io.BytesIO()
    app.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(app, "a") as archive:  # as zipapp writes it
        archive.writestr("__main__.py", "print()")
    assert found(app.getvalue()) == set()
    for holder in (
        tarred({"a.zip": clean, "b.zip": clean}, "w:"),
        written("cpio_newc", clean),
        written("iso9660", clean),
    ):
        assert found(holder) == set()


def test_a_zip_with_an_image_of_a_disc_inside_is_a_zip_too() -> None:
    image = written("iso9660", b"harmless")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("m", bytes(32768 - 31) + image[32768:])
        archive.writestr("a", EICAR, zipfile.ZIP_DEFLATED)
    data = out.getvalue()
    assert [name for name, _ in kinds(data, "application/zip")] == ["zip", "iso9660"]
    assert "malware.eicar" in found(data)


def test_rejects_a_directory_with_content() -> None:
    assert found(zipped({"a/": EICAR})) == {"archive-ambiguous"}


def test_a_7z_is_known_by_its_sum() -> None:
    """Programs that unpack 7z have its mark in them."""
    assert kinds(b"MZ" + b"7z\xbc\xaf\x27\x1c" + bytes(100), "x") == (("all", 0),)


def test_a_file_without_a_name_is_no_directory() -> None:
    nameless = zipped({"name": b"fine"}).replace(b"name", b"\0ame")
    assert found(nameless) == set()
