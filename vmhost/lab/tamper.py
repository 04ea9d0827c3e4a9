"""Alter a VM's boot disk as an attacker with the disk in hand would: the machine still boots."""

import struct
import tempfile
from enum import StrEnum
from pathlib import Path

from vmhost.errors import HostError
from vmhost.image.esp import make_esp, read_program
from vmhost.image.pe import PeFile

_SECTION_SIZE = 8  # offset of VirtualSize in a section's header
_GROWTH = 4


class Alteration(StrEnum):
    """What to alter."""

    INITRD = "initrd"
    COMMAND_LINE = "command-line"


def alter_disk(disk: Path, what: Alteration) -> None:
    """Put an altered program on the disk, in the place of the one there; raises HostError."""
    altered = (
        lengthen(read_program(disk), ".initrd") if what is Alteration.INITRD else debug(read_program(disk))
    )
    with tempfile.NamedTemporaryFile(dir=disk.parent, delete=False) as file:
        temporary = Path(file.name)
    try:
        make_esp(altered, temporary)
        temporary.replace(disk)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def lengthen(uki: bytes, name: str) -> bytes:
    """Return the image with a few zeros more at a section's end, where the file has room; raises HostError."""
    changed, section = bytearray(uki), PeFile(uki).section(name)
    if section is None or section.raw_size < section.size + _GROWTH:
        raise HostError(
            "no-room", f"section {name} ends with the file's padding: expected {_GROWTH} bytes of room"
        )
    struct.pack_into("<I", changed, section.header + _SECTION_SIZE, section.size + _GROWTH)
    return bytes(changed)


def debug(uki: bytes) -> bytes:
    """Return the image with a command line that says `debug` instead of `quiet`; raises HostError."""
    section = PeFile(uki).section(".cmdline")
    line = b"" if section is None else uki[section.offset : section.offset + section.size]
    if section is None or b"quiet" not in line:
        raise HostError("no-room", "the command line has no word `quiet` to replace")
    return uki[: section.offset] + line.replace(b"quiet", b"debug") + uki[section.offset + section.size :]
