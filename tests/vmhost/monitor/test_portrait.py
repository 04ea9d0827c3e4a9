"""What was measured before a start, also where the boot disk is at its worst. The machine is a stand-in."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.vmhost.vm.specs import small
from vmhost.image.esp import make_esp
from vmhost.monitor.portrait import evidence
from vmhost.monitor.vm_commands import odd
from vmhost.names import GATEWAY
from vmhost.vm.domain import Measured, State
from vmhost.vm.golden import Outcome
from vmhost.vm.spec import Disk, VmSpec


@dataclass
class Machine:
    """Stands for a domain that is over."""

    spec: VmSpec
    measured: Measured
    state: State = State.OFF
    reason: str = ""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def measured(boot: Path, name: str = "web") -> Any:
    """A machine that was started from this disk."""
    firmware = boot.parent / "OVMF_CODE.fd"
    firmware.write_bytes(b"firmware")
    digests = {one: digest(one.read_bytes()) for one in (firmware, boot)}
    outcome = Outcome(digests[firmware], 1, restored=False, found=digests[firmware])
    spec = small(name=name, firmware_code=firmware, disks=(Disk(boot, readonly=True),))
    return Machine(spec, Measured(outcome, digests, 1.0))


@pytest.mark.parametrize(
    "content", [b"", bytes(1 << 20), b"no file system" * 1000], ids=["empty", "zeros", "noise"]
)
def test_finds_a_boot_disk_without_a_file_system_odd(tmp_path: Path, content: bytes) -> None:
    boot = tmp_path / "boot.img"
    boot.write_bytes(content)
    found = evidence(measured(boot), tmp_path)
    assert found["kernel_image"] == {"sha256": None, "image": "guest", "as_built": False}
    assert [one["sha256"] for one in found["files"]] == [digest(b"firmware"), digest(content)]
    assert odd(found) == ["no kernel image can be read from the boot disk"]


@pytest.mark.parametrize(
    ("noted", "built", "as_built"),
    [
        (b"new", b"old", True),
        (b"old", b"new", False),
        (None, b"new", True),
        (None, b"old", False),
        (None, None, False),
    ],
)
def test_a_kernel_image_is_compared_with_what_was_installed(
    tmp_path: Path, noted: bytes | None, built: bytes | None, as_built: bool
) -> None:
    slot, images = tmp_path / "slot", tmp_path / "images"
    for directory, program in ((slot, noted), (images, built)):
        directory.mkdir()
        if program is not None:
            (directory / "gateway.json").write_text(json.dumps({"uki": digest(program)}))
    make_esp(b"new", slot / "boot.img")
    found = evidence(measured(slot / "boot.img", GATEWAY), images)
    assert found["kernel_image"] == {"sha256": digest(b"new"), "image": GATEWAY, "as_built": as_built}
