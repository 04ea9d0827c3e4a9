"""The encrypted disk, with the real cryptsetup on a file; that it is opened and mounted is seen in a VM."""

import hashlib
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from authn.sealing import SealedKey
from gateway.errors import GatewayError
from gateway.statedisk.disk import DiskError, StateDisk
from gateway.statedisk.main import give, main, open_state

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


FAILS = 'case "$1" in luksDump)'


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


HEADER_SIZE, CHECKSUM = (
    16384,
    slice(448, 512),
)  # each of the two copies, with its JSON (LUKS2 On-Disk Format 1.1, 2)


def alter(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header's metadata as who has the disk can: nothing but a checksum protects it."""
    with path.open("r+b") as disk:
        for at in (0, HEADER_SIZE):
            disk.seek(at)
            header = bytearray(disk.read(HEADER_SIZE))
            metadata = json.loads(header[4096:].rstrip(b"\0"))
            change(metadata)
            header[4096:] = json.dumps(metadata).encode().ljust(HEADER_SIZE - 4096, b"\0")
            header[CHECKSUM] = bytes(64)
            header[CHECKSUM] = hashlib.sha256(header).digest().ljust(64, b"\0")
            disk.seek(at)
            disk.write(header)


def in_the_clear(metadata: dict[str, Any]) -> None:
    metadata["segments"]["0"]["encryption"] = "cipher_null-ecb"


def two_segments(metadata: dict[str, Any]) -> None:
    first = metadata["segments"]["0"]
    metadata["segments"]["1"] = {**first, "offset": "20971520", "iv_tweak": "8192"}
    first["size"] = "4194304"
    metadata["digests"]["0"]["segments"].append("1")


def second_key(metadata: dict[str, Any]) -> None:
    first = metadata["keyslots"]["0"]
    metadata["keyslots"]["1"] = {**first, "area": {**first["area"], "offset": "290816"}}
    metadata["digests"]["0"]["keyslots"].append("1")


ALTERATIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "null cipher": in_the_clear,
    "weak cipher": lambda data: data["segments"]["0"].update(encryption="aes-ecb"),
    "no encryption": lambda data: data["segments"].update(
        {"0": {"type": "linear", "offset": "16777216", "size": "dynamic"}}
    ),
    "integrity": lambda data: data["segments"]["0"].update(
        integrity={"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"}
    ),
    "a second segment": two_segments,
    "flags": lambda data: data["config"].update(flags=["allow-discards"]),
    "a shorter key": lambda data: data["keyslots"]["0"].update(key_size=32),
    "a second key": second_key,
    "a key in the clear": lambda data: data["keyslots"]["0"]["area"].update(encryption="cipher_null-ecb"),
}


@pytest.mark.parametrize("how", ALTERATIONS)
def test_rejects_altered_header(full: Path, how: str) -> None:
    alter(full, ALTERATIONS[how])
    before, sealing = full.read_bytes(), Mock()
    with pytest.raises(DiskError) as raised:
        open_state(StateDisk(full), Mock(), sealing)
    assert raised.value.code == "altered-header"
    sealing.unseal.assert_not_called()
    assert full.read_bytes() == before


def test_rejects_header_that_says_the_content_is_in_the_clear(full: Path) -> None:
    alter(full, in_the_clear)
    disk = StateDisk(full)
    assert disk.fits(KEY)  # cryptsetup itself finds nothing wrong
    with pytest.raises(DiskError) as raised:
        disk.sealed_key()
    assert raised.value.code == "altered-header"


def test_opens_the_header_that_was_checked(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = full.read_bytes()
    disk = StateDisk(full)
    disk.sealed_key()
    alter(full, in_the_clear)
    opened = tmp_path / "opened"
    script = f'for one; do case "$one" in --header=*) cp "${{one#--header=}}" {opened}; exit 0 ;; esac; done'
    stand_in(tmp_path, monkeypatch, script)
    disk.open(KEY, "state")
    assert opened.read_bytes()[: 2 * HEADER_SIZE] == good[: 2 * HEADER_SIZE]


@pytest.mark.parametrize("formatted", [False, True], ids=["empty", "without a key"])
def test_rejects_new_disk_where_the_tpm_has_signed(path: Path, formatted: bool) -> None:
    if formatted:
        StateDisk(path).make(OTHER)
    before, sealing = path.read_bytes(), Mock()
    sealing.has_signed.return_value = True
    with pytest.raises(GatewayError) as raised:
        open_state(StateDisk(path), Mock(), sealing)
    assert raised.value.code == "state-missing"
    assert path.read_bytes() == before


@pytest.mark.parametrize("formatted", [False, True], ids=["empty", "interrupted"])
def test_the_first_start_makes_the_disk(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, formatted: bool
) -> None:
    """Also after one that lost its power before the key was kept. Only the mapping is stood in for."""
    if formatted:
        StateDisk(path).make(OTHER)
    stand_in(tmp_path, monkeypatch, 'case "$1 $2" in "open --type=luks2") exit 0 ;; esac')
    (tmp_path / "bin" / "mke2fs").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "mke2fs").chmod(0o755)
    sealing = Mock()
    sealing.has_signed.return_value = False
    sealing.make_key.return_value = (KEY, SEALED)
    sealing.unseal.return_value = KEY
    assert open_state(StateDisk(path), Mock(), sealing) == Path("/dev/mapper/state")
    assert StateDisk(path).fits(KEY)
    assert StateDisk(path).sealed_key() == SEALED


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


def test_rejects_an_approval_that_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "approval.json").write_bytes(b"\xff\xfe")
    words = ["--device", "/none", "--approval", str(tmp_path / "approval.json"), "--mount", "/none"]
    monkeypatch.setattr(sys, "argv", ["statedisk", *words, "--directory", "quotegate", "--owner", "nobody"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert "the state stays closed" in str(exited.value.code)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives a directory to another user")
def test_the_states_directory_is_its_owners_alone_also_when_it_was_not(tmp_path: Path) -> None:
    directory = tmp_path / "quotegate"
    for _ in range(2):
        give(directory, "nobody")
        found = directory.stat()
        assert (found.st_uid, found.st_mode & 0o777) == (pwd.getpwnam("nobody").pw_uid, 0o700)
        os.chown(directory, 0, 0)
        directory.chmod(0o755)
