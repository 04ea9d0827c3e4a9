"""Read a log that is cut and replaced while it grows, as consoles' logs are."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOOK_EVERY_S = 0.2
_PIECE = 65536


def follow(
    path: Path, *, forever: bool, pause: Callable[[], None] = lambda: time.sleep(LOOK_EVERY_S)
) -> Iterator[bytes]:
    """Return what is in the log piece by piece; with `forever` also what comes later. Raises OSError at the start.

    A log that became shorter is read from its beginning, and so is one that took its place. It ends with its directory.
    """
    file = path.open("rb", buffering=0)
    while True:
        with file:
            yield from _read(file.fileno(), path, forever, pause)
        if not forever or not path.parent.exists():
            return
        file = path.open("rb", buffering=0)


def _read(fd: int, path: Path, forever: bool, pause: Callable[[], None]) -> Iterator[bytes]:
    """Read to the end; with `forever` until another file is at the path, and all of this one was read."""
    at, replaced = 0, False
    while True:
        at = 0 if os.fstat(fd).st_size < at else at
        if piece := os.pread(fd, _PIECE, at):
            at += len(piece)
            yield piece
        elif replaced or not forever:
            return
        else:
            pause()
            replaced = _is_replaced(fd, path)


def _is_replaced(fd: int, path: Path) -> bool:
    try:
        return path.stat().st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return not path.parent.exists()  # else its successor is just being made
