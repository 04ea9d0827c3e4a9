"""Make the disk from which firmware boots: a FAT file system with one program at the default place."""

import os
import tempfile
from pathlib import Path

from vmhost.image.recipe import EPOCH
from vmhost.image.tool import run_tool

BOOT_PATH = "EFI/BOOT/BOOTX64.EFI"  # UEFI 2.10, 3.5.1.1
_ROOM = 4 << 20
_SMALLEST = 40 << 20  # FAT32 has 65,525 clusters at least


def make_esp(uki: bytes, target: Path) -> None:
    """Write the file system with the program in it; the same program gives the same bytes. Raises HostError."""
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch, "BOOTX64.EFI")
        program.write_bytes(uki)
        os.utime(program, (EPOCH, EPOCH))
        with target.open("wb") as file:
            file.truncate(max(_SMALLEST, -(-(len(uki) + _ROOM) // (1 << 20)) << 20))
        run_tool(["mkfs.vfat", "--invariant", "-F", "32", "-n", "QUOTEGATE", str(target)])
        # mtools stamp what they make with the time of SOURCE_DATE_EPOCH
        stamp = {"SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "UTC"}
        run_tool(["mmd", "-i", str(target), "::/EFI", "::/EFI/BOOT"], **stamp)
        run_tool(["mcopy", "-m", "-i", str(target), str(program), f"::/{BOOT_PATH}"], **stamp)


def read_program(disk: Path) -> bytes:
    """Return the program that firmware would start from this disk; raises HostError."""
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch, "BOOTX64.EFI")
        run_tool(["mcopy", "-i", str(disk), f"::/{BOOT_PATH}", str(program)])
        return program.read_bytes()
