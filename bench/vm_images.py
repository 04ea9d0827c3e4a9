"""The baselines' images: gateway and guest as they are built, except that nothing of ours is started in them."""

import struct
from collections.abc import Callable
from pathlib import Path

import zstandard

from vmhost.image.build import compress
from vmhost.image.esp import make_esp
from vmhost.image.pe import PeFile

# boots the same kernel and root into the shell on the second serial port
GATEWAY_WORD = b" systemd.unit=quotegate-console.service"
# the guest's first program with a loop that never begins, in as many bytes
AGENT_LOOP, NO_LOOP = b"while :; do\n    /usr/bin/setpriv", b"while false; do\n/usr/bin/setpriv"
_SECTION_SIZE = 8  # offset of VirtualSize in a section's header


def plain_gateway(uki: bytes) -> bytes:
    """Return the gateway's program with a command line that starts none of our services."""
    return _changed(uki, ".cmdline", lambda line: line.rstrip(b"\0") + GATEWAY_WORD)


def plain_guest(uki: bytes) -> bytes:
    """Return the guest's program with an initrd that starts no agent."""

    def without_agent(packed: bytes) -> bytes:
        initrd = zstandard.ZstdDecompressor().decompress(packed)
        assert initrd.count(AGENT_LOOP) == 1, "the guest's first program starts its agent in another way"
        return compress(initrd.replace(AGENT_LOOP, NO_LOOP))

    return _changed(uki, ".initrd", without_agent)


def plain_disk(kind: Callable[[bytes], bytes], image: Path, target: Path) -> bytes:
    """Make the disk of a plain image once, at `target`; return its bytes."""
    if not target.exists() or target.stat().st_mtime < image.stat().st_mtime:
        target.parent.mkdir(parents=True, exist_ok=True)
        make_esp(kind(image.read_bytes()), new := target.with_suffix(".new"))
        new.replace(target)
    return target.read_bytes()


def _changed(uki: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Put another content into a section, in the room that its padding leaves."""
    section = PeFile(uki).section(name)
    assert section is not None
    content = change(uki[section.offset : section.offset + section.size])
    assert len(content) <= section.raw_size, f"{name}: {len(content)} bytes don't fit into {section.raw_size}"
    altered = bytearray(uki)
    altered[section.offset : section.offset + section.raw_size] = content.ljust(section.raw_size, b"\0")
    struct.pack_into("<I", altered, section.header + _SECTION_SIZE, len(content))
    return bytes(altered)
