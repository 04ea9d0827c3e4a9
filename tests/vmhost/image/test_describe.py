"""Describing a system that somebody else built."""

import hashlib
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.reference import ReferenceSet
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


@pytest.mark.parametrize(
    "name", ["", "../mine", 'My "System"', "a\nb", "-mine", "mine.1", "m" * 33, "m\xfcller"]
)
def test_rejects_a_name_that_no_policy_could_have(tmp_path: Path, root: Path, name: str) -> None:
    with pytest.raises(HostError, match="expected a-z, 0-9") as raised:
        describe(name, root, _uki(tmp_path, small_uki()), tmp_path / "out")
    assert (raised.value.code, (tmp_path / "out").exists()) == ("bad-name", False)


def test_a_file_whose_name_is_no_text_can_be_signed(tmp_path: Path, root: Path) -> None:
    odd = os.path.join(os.fsencode(root), b"usr/bin/x\xff")  # noqa: PTH118 - bytes
    with open(odd, "w") as file:  # noqa: PTH123 - bytes
        file.write("#!/bin/sh -e\n")
    described = describe("mine", root, _uki(tmp_path, small_uki()), tmp_path / "out")
    assert described.files["/usr/bin/x\\xff"] == hashlib.sha256(b"#!/bin/sh -e\n").hexdigest()
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    assert b"x\\\\xff" in ReferenceSet(1, 1.0, described.values()).sign(key)
