"""The encrypted disk, with the real cryptsetup on a file; that it is opened and mounted is seen in a VM."""

import json
import subprocess
from pathlib import Path

import pytest

from authn.sealing import SealedKey
from gateway.statedisk.disk import DiskError, StateDisk

KEY, OTHER = bytes(range(32)), bytes(32)
SEALED = SealedKey(b"public part", b"private part")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(32 << 20)
    return disk


def test_an_empty_disk_is_new(path: Path) -> None:
    assert StateDisk(path).is_new()


def test_opens_with_its_key_alone(path: Path) -> None:
    disk = StateDisk(path)
    disk.make(KEY)
    disk.keep(SEALED)
    assert disk.fits(KEY)
    assert not disk.fits(OTHER)
    assert disk.sealed_key() == SEALED
    assert not disk.is_new()


def test_a_start_that_was_interrupted_before_the_key_was_kept_begins_anew(path: Path) -> None:
    disk = StateDisk(path)
    disk.make(KEY)
    assert disk.is_new()


def test_rejects_foreign_disk_and_leaves_it_as_it_is(path: Path) -> None:
    before = b"somebody's file system".ljust(1 << 20, b"x")
    path.write_bytes(before)
    with pytest.raises(DiskError) as raised:
        StateDisk(path).is_new()
    assert raised.value.code == "not-our-disk"
    assert path.read_bytes() == before


def test_rejects_token_without_key(path: Path) -> None:
    disk = StateDisk(path)
    disk.make(KEY)
    token = json.dumps({"type": "quotegate-tpm2", "keyslots": ["0"]}).encode()
    subprocess.run(["cryptsetup", "token", "import", "--json-file=-", path], input=token, check=True)
    with pytest.raises(DiskError) as raised:
        disk.sealed_key()
    assert raised.value.code == "bad-token"


def test_the_key_is_on_no_command_line_and_not_in_the_header(path: Path) -> None:
    disk = StateDisk(path)
    disk.make(KEY)
    disk.keep(SEALED)
    assert KEY not in path.read_bytes()
    assert KEY.hex().encode() not in path.read_bytes()


def test_a_device_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiskError) as raised:
        StateDisk(tmp_path / "none").make(KEY)
    assert raised.value.code == "disk-failed"
