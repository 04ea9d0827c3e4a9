"""Secrets are on the disk when they are said to be, or not there at all."""

import os
import stat
from pathlib import Path

import pytest

from vmhost import durable
from vmhost.durable import write_secret


def test_a_secret_is_on_the_disk_with_its_name_and_its_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())))
    write_secret(tmp_path / "key", b"secret")
    assert synced == [str(tmp_path / "key"), str(tmp_path)]
    assert (tmp_path / "key").read_bytes() == b"secret"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_secret_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(durable.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_secret(tmp_path / "key", b"secret")
    assert list(tmp_path.iterdir()) == []
    write_secret(tmp_path / "key", b"secret")
    with pytest.raises(FileExistsError):
        write_secret(tmp_path / "key", b"another")
    assert (tmp_path / "key").read_bytes() == b"secret"
