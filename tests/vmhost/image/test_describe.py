"""Describing a system that somebody else built."""

import hashlib
from pathlib import Path

import pytest

from tests.vmhost.image.programs import small_uki
from vmhost.errors import HostError
from vmhost.image.describe import describe
from vmhost.image.references import Image

ELF = b"\x7fELF, more or less"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (root := tmp_path / "root").mkdir()
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/program").write_bytes(ELF)
    (root / "usr/bin/link").symlink_to("program")
    (root / "usr/bin/script").write_text("#!/bin/sh\n")
    (root / "usr/notes").write_text("nothing that runs\n")
    return root


def _uki(tmp_path: Path, content: bytes) -> Path:
    (path := tmp_path / "mine.efi").write_bytes(content)
    return path


def test_lists_what_can_be_run_and_is_loaded_like_an_image_of_ours(tmp_path: Path, root: Path) -> None:
    uki = _uki(tmp_path, small_uki())
    described = describe("mine", root, uki, tmp_path / "out")
    assert described == Image.load(tmp_path / "out", "mine")
    assert described.uki.read_bytes() == uki.read_bytes()
    assert dict(described.files) == {
        "/usr/bin/program": hashlib.sha256(ELF).hexdigest(),
        "/usr/bin/script": hashlib.sha256(b"#!/bin/sh\n").hexdigest(),
    }
    assert {"mine-pcr4", "mine-pcr11", "mine-files"} <= set(described.values())


def test_rejects_program_that_is_no_uki(tmp_path: Path, root: Path) -> None:
    with pytest.raises(HostError) as raised:
        describe("mine", root, _uki(tmp_path, ELF), tmp_path / "out")
    assert raised.value.code == "bad-pe"


def test_rejects_root_without_programs(tmp_path: Path) -> None:
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(HostError) as raised:
        describe("mine", empty, _uki(tmp_path, small_uki()), tmp_path / "out")
    assert raised.value.code == "bad-root"


def test_rejects_missing_uki(tmp_path: Path, root: Path) -> None:
    with pytest.raises(HostError) as raised:
        describe("mine", root, tmp_path / "none.efi", tmp_path / "out")
    assert raised.value.code == "not-described"
    assert "none.efi" in raised.value.message
