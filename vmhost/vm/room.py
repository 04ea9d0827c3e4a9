"""Make sure of free space before anything starts: swtpm and QEMU go on without it, and the machine is broken then."""

import os
import tempfile
from pathlib import Path

from vmhost.errors import HostError


def ensure_room(directory: Path, size: int) -> None:
    """Take `size` bytes in the directory and give them back; raises HostError `no-space`."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise HostError(
            "no-space",
            f"{directory}: checked free space before the start: expected {size} bytes, got {error}; nothing was started: "
            "free space there, then start again",
        ) from error
