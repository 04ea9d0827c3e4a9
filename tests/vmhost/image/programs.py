"""EFI programs small enough to read: headers, sections, nothing that runs."""

import struct
from collections.abc import Mapping

HEADERS, ALIGNMENT = 1024, 512
SIGNATURE = 64  # where the PE header is


def efi_program(sections: Mapping[str, bytes], stamp: int = 0, certificates: bytes = b"") -> bytes:
    """A PE32+ program with these sections, aligned alike in file and memory."""
    at, table, body = HEADERS, b"", b""
    for name, content in sections.items():
        raw = content + bytes(-len(content) % ALIGNMENT)
        table += struct.pack("<8sIIII16s", name.encode(), len(content), at, len(raw), at, bytes(16))
        at, body = at + len(raw), body + raw
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<QII", optional, 24, 0x400000, ALIGNMENT, ALIGNMENT)
    struct.pack_into("<III", optional, 56, at, HEADERS, stamp)  # image size, headers' size, checksum
    struct.pack_into("<I", optional, 108, 16)
    if certificates:
        struct.pack_into("<II", optional, 144, at, len(certificates))
    coff = struct.pack("<HHIIIHH", 0x8664, len(sections), stamp, 0, 0, len(optional), 0x22E)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", SIGNATURE)
    head = dos + b"PE\0\0" + coff + bytes(optional) + table
    return head.ljust(HEADERS, b"\0") + body + certificates


MAGIC = b"#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####\0"


def small_uki(
    command_line: str = "quiet",
    initrd: bytes = b"an initrd",
    stamp: int = 0,
    magic: bytes = MAGIC,
    **more: bytes,
) -> bytes:
    """A unified kernel image around a kernel of ten bytes."""
    return efi_program(
        {
            ".text": b"stub",
            ".sdmagic": magic,
            ".osrel": b"ID=small\n",
            ".cmdline": command_line.encode(),
            ".linux": efi_program({".text": b"the kernel"}),
            ".initrd": initrd,
            **{f".{name}": content for name, content in more.items()},
        },
        stamp,
    )
