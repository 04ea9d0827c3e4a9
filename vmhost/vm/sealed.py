"""Measure a file so that what was measured is what starts: a sealed copy in memory, hashed after sealing.

Guaranteed: nobody, the kernel's other users of the memfd and root included, changes a byte between the hash and
its use. Not guaranteed: that the file on disk still has this content, or that it had it at one single moment.
"""

import fcntl
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from vmhost.errors import HostError

MAX_SIZE = 4 << 30
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Sealed:
    """A read-only fd on a sealed copy, with the SHA-256 of what is in it. Close it, or use it in `with`."""

    fd: int
    digest: str
    size: int

    def close(self) -> None:
        """Give the memory back, once nobody else has it open."""
        os.close(self.fd)

    def __enter__(self) -> "Sealed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def seal(path: Path) -> Sealed:
    """Copy a file to memory, seal the copy, and hash it; raises HostError."""
    try:
        memory = os.memfd_create(path.name[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            _copy(path, memory)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
            fd = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(memory)
    except OSError as error:
        raise HostError(
            "seal-failed",
            f"{path}: copying it to sealed memory: expected a readable file and free memory, got {error}; "
            "check that the file exists, and `free -m`",
        ) from error
    try:
        digest, size = _hash(fd)
    except BaseException:
        os.close(fd)
        raise
    return Sealed(fd, digest, size)


def _copy(path: Path, memory: int) -> None:
    # O_NONBLOCK: a FIFO in its place must not hang us
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(source)
        if not stat.S_ISREG(info.st_mode):
            raise HostError(
                "seal-failed",
                f"{path}: checked its type: expected a regular file, got mode {info.st_mode:o}; "
                "name the file itself",
            )
        copied = 0
        while sent := os.sendfile(memory, source, None, _PIECE):
            copied += sent
            if copied > MAX_SIZE:
                raise HostError(
                    "seal-failed",
                    f"{path}: checked its size: expected at most {MAX_SIZE} bytes, got more; "
                    "attach a disk of this size as a writable one",
                )
    finally:
        os.close(source)


def _hash(fd: int) -> tuple[str, int]:
    sha, offset = hashlib.sha256(), 0
    while piece := os.pread(fd, _PIECE, offset):
        sha.update(piece)
        offset += len(piece)
    return sha.hexdigest(), offset
