"""Write an initramfs: a cpio archive (`newc`, Linux Documentation/driver-api/early-userspace/buffer-format.rst)."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vmhost.image.recipe import EPOCH


def pack(tree: Path) -> bytes:
    """Return the tree as an archive that depends on names, modes and contents alone: everything is root's."""
    parts: list[bytes] = []
    for number, path in enumerate(_everything(tree), start=1):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            data, mode = str(path.readlink()).encode(), stat.S_IFLNK | 0o777
        elif stat.S_ISDIR(status.st_mode):
            data, mode = b"", status.st_mode
        else:
            data, mode = path.read_bytes(), status.st_mode
        parts.append(_entry(number, str(path.relative_to(tree)), mode, data))
    parts.append(_entry(0, "TRAILER!!!", 0, b""))
    return b"".join(parts)


def _everything(tree: Path) -> Iterator[Path]:
    for directory, folders, files in os.walk(tree):
        folders.sort()
        for name in sorted([*files, *folders]):
            yield Path(directory, name)


def _entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, EPOCH, len(data), 0, 0, 0, 0, len(name.encode()) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
