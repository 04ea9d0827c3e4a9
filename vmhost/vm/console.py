"""Keep a guest's console output, but never more than so much of it: the guest decides how much it writes.

QEMU gets the file open to append and nothing else; size and rotation are ours, through our own fd.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmhost.errors import HostError
from vmhost.process import room_of

MAX_CONSOLE = 1 << 20
CHECK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Console:
    """A console's log: `fd` is ours, to read and cut; `append_fd` is QEMU's."""

    path: Path
    fd: int
    append_fd: int

    def limit(self, maximum: int = MAX_CONSOLE) -> bool:
        """Move what was written to `….old` once it is too much; tell whether it was.

        The guest may write while we cut: those few bytes are lost.
        """
        if room_of(os.fstat(self.fd)) <= maximum:
            return False
        kept = os.pread(self.fd, maximum, max(0, os.fstat(self.fd).st_size - maximum))
        os.ftruncate(self.fd, 0)
        temporary = self.path.with_suffix(".new")
        with contextlib.suppress(OSError):  # no space left: what was written is gone, the limit holds
            temporary.write_bytes(kept)
            temporary.chmod(0o600)
            temporary.replace(self.path.with_suffix(".old"))
        return True

    async def keep_small(self) -> None:
        """Limit it again and again."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            self.limit()


@contextmanager
def console_log(path: Path) -> Iterator[Console]:
    """Begin a new log; the one of the last start becomes `….old`. The log stays. Raises HostError."""
    fds: list[int] = []
    try:
        try:
            if path.exists():
                path.replace(path.with_suffix(".old"))
            # new, so nobody else has it open or has put a link there
            fds.append(
                os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            )
            fds.append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC))
        except OSError as error:
            raise HostError(
                "console-failed",
                f"{path}: creating the console's log: expected a writable directory, got {error}; free space on it",
            ) from error
        yield Console(path, fds[0], fds[1])
    finally:
        for fd in fds:
            os.close(fd)
