"""Altered images: each still an image, and each predicted to measure something else."""

from pathlib import Path

import pytest
import zstandard

from gateway.cli.parser import build_parser
from tests.vmhost.image.programs import MAGIC, efi_program, small_uki
from vmhost.errors import HostError
from vmhost.image.esp import make_esp, read_program
from vmhost.image.pe import PeFile
from vmhost.image.predict import predict
from vmhost.image.tool import run_tool
from vmhost.lab.tamper import IN_PROGRAM, Alteration, alter_disk, alter_machine, with_content
from vmhost.lab.vms import VmPaths
from vmhost.names import Lab

AGENT = b"#!/usr/bin/busybox sh\nexport PYTHONDONTWRITEBYTECODE=1\n"
KERNEL = efi_program({".text": b"the kernel; No setup signature found..."})


def uki() -> bytes:
    return efi_program(
        {
            ".text": b"stub",
            ".sdmagic": MAGIC,
            ".osrel": b"ID=small\n",
            ".cmdline": b"console=ttyS0 quiet",
            ".linux": KERNEL,
            ".initrd": zstandard.compress(AGENT),
        }
    )


def differing(one: bytes, two: bytes) -> set[str]:
    """Name the events that two images measure differently."""
    return {
        wanted.description
        for pcr, events in predict(one).items()
        for wanted, found in zip(events, predict(two)[pcr], strict=True)
        if wanted.digest != found.digest
    }


SHOWN = {
    Alteration.KERNEL: {"kernel", "section .linux"},
    Alteration.INITRD: {"initrd", "section .initrd"},
    Alteration.COMMAND_LINE: {"command line", "section .cmdline"},
    Alteration.DEBUG_SHELL: {"command line", "section .cmdline"},
    Alteration.AGENT: {"initrd", "section .initrd"},
}


@pytest.mark.parametrize("what", IN_PROGRAM)
def test_an_alteration_is_measured_by_its_name(what: Alteration) -> None:
    assert differing(uki(), IN_PROGRAM[what](uki())) == {"the image", *SHOWN[what]}


@pytest.mark.parametrize("what", Alteration)
def test_each_is_at_hand(what: Alteration) -> None:
    assert build_parser().parse_args(["lab", "tamper", "web", "--with", what.value]).what == what.value


def test_the_altered_agent_still_runs() -> None:
    changed = PeFile(IN_PROGRAM[Alteration.AGENT](uki())).content(".initrd")
    assert zstandard.decompress(changed or b"") == AGENT.replace(b"=1", b"=2")


def test_the_debug_shell_hands_over_to_the_first_program() -> None:
    line = PeFile(IN_PROGRAM[Alteration.DEBUG_SHELL](uki())).content(".cmdline") or b""
    assert line.startswith(b"console=ttyS0 quiet rdinit=/usr/bin/busybox -- sh")
    assert line.endswith(b'exec /init"')


def test_the_last_section_may_grow_and_no_other() -> None:
    grown = PeFile(with_content(uki(), ".initrd", b"x" * 3000))
    assert grown.content(".initrd") == b"x" * 3000
    assert PeFile(with_content(uki(), ".cmdline", b"x" * 512)).content(".cmdline") == b"x" * 512
    with pytest.raises(HostError, match="expected at most 512 bytes, got 513"):
        with_content(uki(), ".cmdline", b"x" * 513)


@pytest.mark.parametrize("what", [Alteration.KERNEL, Alteration.AGENT, Alteration.COMMAND_LINE])
def test_rejects_an_image_that_has_nothing_of_the_kind(what: Alteration) -> None:
    with pytest.raises(HostError) as refused:
        IN_PROGRAM[what](small_uki("nothing to say", zstandard.compress(b"no agent")))
    assert refused.value.code == "nothing-to-alter"


def test_the_disk_has_the_altered_program_and_nothing_else_is_left(tmp_path: Path) -> None:
    make_esp(uki(), disk := tmp_path / "boot.img")
    alter_disk(disk, Alteration.KERNEL)
    assert read_program(disk) == IN_PROGRAM[Alteration.KERNEL](uki())
    assert [one.name for one in tmp_path.iterdir()] == ["boot.img"]


def test_the_same_program_is_started_with_more_options(tmp_path: Path) -> None:
    make_esp(uki(), disk := tmp_path / "boot.img")
    alter_disk(disk, Alteration.BOOT_OPTIONS)
    for name in ("image.efi", "startup.nsh"):
        run_tool(["mcopy", "-i", str(disk), f"::/{name}", str(tmp_path / name)])
    assert (tmp_path / "image.efi").read_bytes() == uki()
    script = (tmp_path / "startup.nsh").read_bytes()
    assert script == b"fs0:\\image.efi console=ttyS0 quiet quotegate.altered=1\r\n"
    with pytest.raises(HostError):
        read_program(disk)


def test_firmware_root_and_boot_disk_are_altered_as_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VmPaths, "directory", tmp_path)
    paths = VmPaths(Lab("x"), "web")
    with pytest.raises(HostError, match="expected the gateway"):
        alter_machine(paths, Alteration.ROOT)
    content = bytes(range(256)) * (4 << 12)
    for path in (paths.root, paths.firmware, paths.disk):
        path.write_bytes(content)
    for what in (Alteration.ROOT, Alteration.FIRMWARE, Alteration.BOOT):
        alter_machine(paths, what)
    assert paths.disk.read_bytes() == bytes(len(content))
    assert paths.firmware.read_bytes() == content[:-1] + bytes([content[-1] ^ 1])
    changed = [at for at, one in enumerate(paths.root.read_bytes()) if one != content[at]]
    assert changed == list(range(len(content) // 4, len(content) * 3 // 4, 1 << 20))
