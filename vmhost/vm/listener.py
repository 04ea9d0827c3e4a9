"""Bind a program's unix socket for it: it needs no right to create files, and nobody has to wait for its socket."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmhost.errors import HostError


@contextmanager
def listening(path: Path, uid: int) -> Iterator[socket.socket]:
    """Listen at a path that only root and `uid` may connect to; the file is removed on leaving. Raises HostError."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        try:
            path.unlink(missing_ok=True)
            # the mode is in force before listen(2): nobody else gets in between
            listener.bind(str(path))
            path.chmod(0o600)
            os.chown(path, uid, -1)
            listener.listen(1)
        except OSError as error:
            raise HostError(
                "socket-failed",
                f"{path}: binding a unix socket: expected a writable directory and at most 107 characters, got "
                f"{error}; choose another run directory",
            ) from error
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)
