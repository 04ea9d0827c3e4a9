"""The encrypted disk, with the real cryptsetup on a file; that it is opened and mounted is seen in a VM."""

import json
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest

from authn.sealing import SealedKey
from gateway.statedisk.disk import DiskError, StateDisk
from gateway.statedisk.main import open_state

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


@pytest.fixture
def full(path: Path) -> Path:
    """A disk that holds state."""
    disk = StateDisk(path)
    disk.make(KEY)
    disk.keep(SEALED)
    return path


def stand_in(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a cryptsetup before the real one that fails as told, and else is the real one."""
    bin_ = directory / "bin"
    bin_.mkdir()
    (bin_ / "cryptsetup").write_text(f'#!/bin/sh\n{script}\nexec /usr/sbin/cryptsetup "$@"\n')
    (bin_ / "cryptsetup").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:/usr/sbin:/usr/bin:/bin")


FAILS = 'case "$1" in token | luksDump)'


@pytest.mark.parametrize(
    "script",
    [
        f"{FAILS} kill -9 $$ ;; esac",
        f"{FAILS} echo 'Failed to acquire read lock on device' >&2; exit 5 ;; esac",
        f"{FAILS} exit 1 ;; esac",
        f"{FAILS} exit 0 ;; esac",
        f"{FAILS} echo '{{\"keyslots\": {{}}}}'; exit 0 ;; esac",
        "kill -9 $$",
    ],
    ids=["killed", "lock", "failed", "silent", "no tokens", "all killed"],
)
def test_a_full_disk_whose_header_could_not_be_read_is_not_made_anew(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    before = full.read_bytes()
    stand_in(tmp_path, monkeypatch, script)
    sealing = Mock()
    sealing.make_key.return_value = (OTHER, SEALED)
    with pytest.raises(DiskError):
        open_state(StateDisk(full), Mock(), sealing)
    assert full.read_bytes() == before
    sealing.make_key.assert_not_called()


def test_rejects_disk_with_somebody_elses_token(path: Path) -> None:
    disk = StateDisk(path)
    disk.make(KEY)
    token = json.dumps({"type": "somebody-elses", "keyslots": ["0"]}).encode()
    subprocess.run(["cryptsetup", "token", "import", "--json-file=-", path], input=token, check=True)
    with pytest.raises(DiskError) as raised:
        disk.is_new()
    assert raised.value.code == "not-our-disk"


def test_rejects_a_disk_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(DiskError) as raised:
        StateDisk(tmp_path / "none").is_new()
    assert raised.value.code == "disk-failed"


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
