"""Put kernel, initrd and command line into one signed-or-not EFI program (UAPI Group, Unified Kernel Image)."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from vmhost.image.pe import PeFile, without_times
from vmhost.image.tool import run_tool


@dataclass(frozen=True, slots=True)
class UkiParts:
    """What goes into a unified kernel image."""

    stub: bytes
    linux: bytes
    initrd: bytes
    command_line: str
    os_release: bytes
    uname: str


def build_uki(parts: UkiParts) -> bytes:
    """Return the image; raises HostError. The sections lie behind the stub's own, none over another."""
    sections = {
        ".osrel": parts.os_release,
        ".cmdline": parts.command_line.encode(),
        ".uname": parts.uname.encode(),
        ".linux": parts.linux,
        ".initrd": parts.initrd,
    }
    stub = PeFile(parts.stub)
    at = _aligned(stub.image_base + stub.end, stub.section_alignment)
    with tempfile.TemporaryDirectory() as scratch:
        argv = ["objcopy"]
        for name, data in sections.items():
            (path := Path(scratch, name)).write_bytes(data)
            argv += [
                f"--add-section={name}={path}",
                f"--set-section-flags={name}=data,readonly",
                f"--change-section-vma={name}={at:#x}",
            ]
            at = _aligned(at + len(data), stub.section_alignment)
        source, target = Path(scratch, "stub"), Path(scratch, "uki")
        source.write_bytes(parts.stub)
        run_tool([*argv, str(source), str(target)])
        return without_times(target.read_bytes())


def _aligned(value: int, to: int) -> int:
    return -(-value // to) * to
