"""What a virtual machine is prepared with. Files alone."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmhost.image.programs import small_uki
from tests.vmhost.update.bundles import small_image
from vmhost.errors import HostError
from vmhost.image.references import Image
from vmhost.lab import vms
from vmhost.lab.teardown import remove_tree
from vmhost.lab.vms import GUEST, VmPaths, prepare_vm
from vmhost.names import Lab


@pytest.fixture
def paths() -> Iterator[VmPaths]:
    lab = Lab(f"tvm{os.getpid()}")
    yield VmPaths(lab, "web")
    remove_tree(lab.state_dir)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    for name in ("FIRMWARE", "VARIABLES"):
        (tmp_path / name).write_text(name)
        monkeypatch.setattr(vms, name, tmp_path / name)
    one = small_image(tmp_path / "images", GUEST)
    one.uki.write_bytes(small_uki())
    return one


def test_it_gets_copies_of_its_own_and_which_program_they_have_is_noted(paths: VmPaths, image: Image) -> None:
    prepare_vm(paths, image)
    assert paths.disk.read_bytes() == image.disk.read_bytes()
    assert (paths.firmware.read_text(), paths.variables.read_text()) == ("FIRMWARE", "VARIABLES")
    assert stat.S_IMODE(paths.tpm_key.stat().st_mode) == 0o600
    noted = json.loads((paths.directory / "guest.json").read_text())
    assert noted == {"uki": hashlib.sha256(small_uki()).hexdigest()}


def test_rejects_an_image_without_its_program(paths: VmPaths, image: Image) -> None:
    image.uki.unlink()
    with pytest.raises(HostError) as raised:
        prepare_vm(paths, image)
    assert (raised.value.code, paths.directory.exists()) == ("no-firmware", False)
