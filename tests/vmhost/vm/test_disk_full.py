"""No space left where a start writes: really full disks, a clear refusal, nothing left; with space again it starts."""

import asyncio
import contextlib
import dataclasses
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmhost.vm.real import OVMF, Place, memfds, place
from vmhost.errors import HostError
from vmhost.lab.vms import copy_in
from vmhost.vm.domain import Domain, State
from vmhost.vm.room import ensure_room

pytestmark = [pytest.mark.netns, pytest.mark.tpm]


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """Mount an empty disk of 8 MB at a new directory."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=711", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Take all space there is with a file."""
    filler = directory / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def domain_at(here: Place) -> Domain:
    """A VM whose logs, TPM state and installed firmware are in directories of their own."""
    installed = here.root / "installed" / "OVMF_CODE.fd"
    installed.parent.mkdir(exist_ok=True)
    spec = dataclasses.replace(here.spec(), firmware_code=installed)
    return Domain(spec, here.host(spec), here.changes.append)


FULL = {"run": "no-space", "tpm-state": "no-space", "installed": "firmware-not-restored"}


@pytest.mark.parametrize("where", FULL)
def test_a_start_without_space_is_refused_and_undone(where: str) -> None:
    async def starts(here: Place) -> None:
        filler, domain = fill(here.root / where), domain_at(here)
        with pytest.raises(HostError, match=r"No space left.*nothing was started: .*free space") as refused:
            await domain.start()
        assert refused.value.code == FULL[where]
        assert domain.state is State.FAILED
        assert "No space left" in domain.reason
        assert (here.processes(), here.sockets(), memfds(), here.tap_in_use()) == ([], [], [], False)
        assert [one for one in (here.root / where).rglob("*") if one.is_file() and one.name != ".lock"] == [
            filler
        ]
        filler.unlink()
        await domain.start()
        assert domain.state is State.RUNNING
        await domain.stop()
        assert domain.spec.firmware_code.read_bytes() == (OVMF / "OVMF_CODE.fd").read_bytes()

    with place("f") as here, small_disk(here.root / where):
        asyncio.run(starts(here))


def test_an_image_that_does_not_fit_is_refused_and_not_begun(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(9 << 20))
    with small_disk(tmp_path / "vms"):
        with pytest.raises(HostError, match=r"expected 9437184 bytes, got .*No space left") as refused:
            copy_in(tmp_path / "image", tmp_path / "vms" / "boot.img")
        assert refused.value.code == "no-space"
        assert list((tmp_path / "vms").iterdir()) == []


def test_the_look_for_space_leaves_nothing(tmp_path: Path) -> None:
    before = shutil.disk_usage(tmp_path).free
    ensure_room(tmp_path, 1 << 20)
    assert list(tmp_path.iterdir()) == []
    assert shutil.disk_usage(tmp_path).free > before - (1 << 20)
