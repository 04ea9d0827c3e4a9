"""Other images of the gateway, made of the built one in seconds: another text in a section of its program is another image."""

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from vmhost.image.esp import make_esp
from vmhost.image.pe import PeFile
from vmhost.lab.setup import PROJECT
from vmhost.names import GATEWAY

IMAGES = PROJECT / "build" / "image"
_SECTION_SIZE = 8  # offset of VirtualSize in a section's header
Change = Callable[[bytes], bytes]


def variant(directory: Path, section: str, change: Change) -> Path:
    """Make an image like the built one but for a section; return its directory, as a build leaves it."""
    directory.mkdir()
    uki = changed((IMAGES / f"{GATEWAY}.efi").read_bytes(), section, change)
    (directory / f"{GATEWAY}.efi").write_bytes(uki)
    make_esp(uki, directory / f"{GATEWAY}.img")
    for kind in ("root", "json"):
        source, target = IMAGES / f"{GATEWAY}.{kind}", directory / f"{GATEWAY}.{kind}"
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copyfile(source, target)
    return directory


def changed(uki: bytes, name: str, change: Change) -> bytes:
    """Put another content into a section, in the room that its padding leaves."""
    section = PeFile(uki).section(name)
    assert section is not None
    content = change(uki[section.offset : section.offset + section.size])
    assert len(content) <= section.raw_size, (
        f"{name}: {len(content)} bytes do not fit into {section.raw_size}"
    )
    altered = bytearray(uki)
    altered[section.offset : section.offset + section.raw_size] = content.ljust(section.raw_size, b"\0")
    struct.pack_into("<I", altered, section.header + _SECTION_SIZE, len(content))
    return bytes(altered)


def newer(directory: Path, version: int) -> Path:
    """An image that says another version of itself, and is as good as the built one."""
    return variant(directory, ".osrel", lambda text: text + f"VERSION_ID={version}\n".encode())


def with_words(directory: Path, words: str) -> Path:
    """An image with more words on its command line."""
    return variant(directory, ".cmdline", lambda line: line.rstrip(b"\0") + f" {words}".encode())
