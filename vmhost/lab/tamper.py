"""Alter what a VM starts from, as an attacker with the host's disk in hand would: the machine still boots, but for two."""

import struct
import tempfile
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

import zstandard

from vmhost.errors import HostError
from vmhost.image.esp import BOOT_PATH, make_esp, read_program
from vmhost.image.pe import PeFile
from vmhost.image.tool import run_tool
from vmhost.lab.vms import VmPaths

_GROWTH = 4
_ALIGNMENT = 512
# offsets: in a section's header, in the COFF header, in the optional header
_SECTION_SIZES, _SYMBOLS, _SIZE_OF_IMAGE = 8, 12, 24 + 56
_UNUSED_TEXT = b"No setup signature found"  # the kernel's, for boot loaders of another age
_AGENT_TEXT = b"PYTHONDONTWRITEBYTECODE="
_SHELL = b' rdinit=/usr/bin/busybox -- sh -c "/usr/bin/busybox sh </dev/console & exec /init"'
_MAX_INITRD = 1 << 30
_ASIDE, _OPTION = "image.efi", "quotegate.altered=1"
ROOT_PIECE = 1 << 20


class Alteration(StrEnum):
    """What to alter. Nothing starts with `boot` and `root`: the machine hangs, or ends itself."""

    KERNEL = "kernel"
    INITRD = "initrd"
    COMMAND_LINE = "command-line"
    DEBUG_SHELL = "debug-shell"
    AGENT = "agent"
    BOOT_OPTIONS = "boot-options"
    BOOT = "boot"
    FIRMWARE = "firmware"
    ROOT = "root"


def alter_machine(paths: VmPaths, what: Alteration) -> None:
    """Alter what a VM will start from next; raises HostError."""
    match what:
        case Alteration.FIRMWARE:
            flip(paths.firmware, range(-1, 0))
        case Alteration.ROOT:
            if not paths.root.exists():
                raise HostError(
                    "no-root", f"{paths.name} has no verified root: expected the gateway, which alone has one"
                )
            size = paths.root.stat().st_size
            flip(paths.root, range(size // 4, size * 3 // 4, ROOT_PIECE))  # somewhere that is read
        case Alteration.BOOT:
            _replace(paths.disk, lambda target: target.write_bytes(bytes(paths.disk.stat().st_size)))
        case _:
            alter_disk(paths.disk, what)


def alter_disk(disk: Path, what: Alteration) -> None:
    """Put an altered program on the disk, in the place of the one there; raises HostError."""
    program = read_program(disk)
    if what is Alteration.BOOT_OPTIONS:
        _replace(disk, lambda target: _make_esp_with_options(program, target))
    else:
        altered = IN_PROGRAM[what](program)
        _replace(disk, lambda target: make_esp(altered, target))


def flip(path: Path, places: range) -> None:
    """Flip a bit at each of the places; negative ones count from the end."""
    content = bytearray(path.read_bytes())
    for at in places:
        content[at] ^= 1
    _replace(path, lambda target: target.write_bytes(content))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        temporary = Path(file.name)
    try:
        write(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _make_esp_with_options(uki: bytes, target: Path) -> None:
    """Have the firmware's shell start the program as it is, with a command line of its own, as a boot menu may."""
    make_esp(uki, target)
    line = _content(uki, ".cmdline").rstrip(b"\0").decode("ascii")
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch, "startup.nsh")
        script.write_text(f"fs0:\\{_ASIDE} {line} {_OPTION}\r\n")
        run_tool(["mmove", "-i", str(target), f"::/{BOOT_PATH}", f"::/{_ASIDE}"])
        run_tool(["mcopy", "-i", str(target), str(script), "::/startup.nsh"])


def with_content(uki: bytes, name: str, content: bytes) -> bytes:
    """Return the image with another content of a section, which may be longer if it is the file's last; raises HostError."""
    program = PeFile(uki)
    section = program.section(name)
    if section is None:
        raise HostError("no-section", f"the image has no section {name}; expected a unified kernel image")
    is_last = section.offset == max(one.offset for one in program.sections)
    padded = content + bytes(-len(content) % _ALIGNMENT)
    if not is_last and len(padded) > section.raw_size:
        raise HostError(
            "no-room", f"section {name}: expected at most {section.raw_size} bytes, got {len(content)}"
        )
    changed = bytearray(uki)
    struct.pack_into("<I", changed, section.header + _SECTION_SIZES, len(content))
    if not is_last:
        changed[section.offset : section.offset + len(padded)] = padded
        return bytes(changed)
    end = section.address + len(padded)
    struct.pack_into("<I", changed, section.header + _SECTION_SIZES + 8, len(padded))
    struct.pack_into("<I", changed, program.header + _SIZE_OF_IMAGE, end)
    struct.pack_into("<II", changed, program.header + _SYMBOLS, 0, 0)  # they lay behind the last section
    return bytes(changed[: section.offset]) + padded


def _kernel(uki: bytes) -> bytes:
    return with_content(uki, ".linux", _swapped(_content(uki, ".linux"), _UNUSED_TEXT, _UNUSED_TEXT.lower()))


def _initrd(uki: bytes) -> bytes:
    return with_content(uki, ".initrd", _content(uki, ".initrd") + bytes(_GROWTH))


def _command_line(uki: bytes) -> bytes:
    return with_content(uki, ".cmdline", _swapped(_content(uki, ".cmdline"), b"quiet", b"debug"))


def _debug_shell(uki: bytes) -> bytes:
    return with_content(uki, ".cmdline", _content(uki, ".cmdline").rstrip(b"\0") + _SHELL)


def _agent(uki: bytes) -> bytes:
    """Change the agent's program in the initrd; it still runs."""
    packed = _content(uki, ".initrd")
    tree = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_MAX_INITRD)
    changed = _swapped(tree, _AGENT_TEXT + b"1", _AGENT_TEXT + b"2")
    return with_content(uki, ".initrd", zstandard.ZstdCompressor().compress(changed))


IN_PROGRAM: Mapping[Alteration, Callable[[bytes], bytes]] = {
    Alteration.KERNEL: _kernel,
    Alteration.INITRD: _initrd,
    Alteration.COMMAND_LINE: _command_line,
    Alteration.DEBUG_SHELL: _debug_shell,
    Alteration.AGENT: _agent,
}


def _content(uki: bytes, name: str) -> bytes:
    content = PeFile(uki).content(name)
    if content is None:
        raise HostError("no-section", f"the image has no section {name}; expected a unified kernel image")
    return content


def _swapped(content: bytes, old: bytes, new: bytes) -> bytes:
    """Replace the only, or first, occurrence; raises HostError when there is none."""
    if old not in content:
        raise HostError(
            "nothing-to-alter",
            f"expected {old!r} in the image, found none; it is altered already, or another image",
        )
    return content.replace(old, new, 1)
