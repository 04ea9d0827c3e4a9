"""Let the kernel carry what a connection has left: bytes go from socket to socket through a pipe and never come here."""

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

_ROOM: Final = 1 << 20  # bytes of a pipe; without the right to so much it keeps the kernel's 64 KiB
_PER_TURN: Final = 16  # moves in one turn of the loop: others wait too
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Splice:
    """One direction. `over` hears its orderly end (None), once everything is handed on, or what broke."""

    def __init__(
        self, source: socket.socket, target: socket.socket, over: Callable[[OSError | None], None]
    ) -> None:
        self._source, self._target, self._over = source, target, over
        self._loop = asyncio.get_running_loop()
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, _ROOM)
        self._inside = 0  # bytes in the pipe
        self._stopped = False
        self._loop.add_reader(source.fileno(), self._move)

    @property
    def carries(self) -> bool:
        """Tell whether bytes are under way in the pipe."""
        return self._inside > 0

    def stop(self) -> None:
        """Move nothing more; what is in the pipe is lost. Does nothing the second time."""
        if self._stopped:
            return
        self._stopped = True
        self._loop.remove_reader(self._source.fileno())
        self._loop.remove_writer(self._target.fileno())
        os.close(self._out)
        os.close(self._in)

    def _move(self) -> None:
        try:
            for _ in range(_PER_TURN):
                if not self._inside and not self._fill():
                    return
                if not self._drain():
                    return
        except OSError as error:
            self.stop()
            self._over(error)

    def _fill(self) -> bool:
        """Take from the source; False when it has nothing, or has ended."""
        try:
            self._inside = os.splice(self._source.fileno(), self._in, _ROOM, flags=_FLAGS)
        except BlockingIOError:
            return False
        if not self._inside:
            self.stop()
            self._over(None)
        return bool(self._inside)

    def _drain(self) -> bool:
        """Hand on to the target; False when it takes no more now: then nothing is read until it does."""
        try:
            while self._inside:
                self._inside -= os.splice(self._out, self._target.fileno(), self._inside, flags=_FLAGS)
        except BlockingIOError:
            self._loop.remove_reader(self._source.fileno())
            self._loop.add_writer(self._target.fileno(), self._go_on)
            return False
        return True

    def _go_on(self) -> None:
        self._loop.remove_writer(self._target.fileno())
        self._loop.add_reader(self._source.fileno(), self._move)
        self._move()


class Bypass:
    """Both directions of a connection. `ended` hears its orderly end, `broken` anything else."""

    def __init__(
        self,
        near: socket.socket,
        far: socket.socket,
        ended: Callable[[], None],
        broken: Callable[[], None],
    ) -> None:
        """Take two connected sockets, whose readers have stopped and whose buffers are empty; they stay the caller's."""
        self._ended, self._broken = ended, broken
        self._open = 2
        self.sockets = (near, far)
        self._ways: list[Splice] = []
        try:
            for at in range(2):
                source, target = self.sockets[at], self.sockets[1 - at]
                self._ways.append(Splice(source, target, partial(self._over, target)))
        except OSError:  # no descriptors left: half of it must not go on after the cut that follows
            self.stop()
            raise

    @property
    def carries(self) -> bool:
        """Tell whether bytes are under way in it."""
        return any(way.carries for way in self._ways)

    @property
    def ended(self) -> bool:
        """Tell whether a direction, or all of it, has ended."""
        return self._open < 2 or self.sockets[0].fileno() < 0

    def stop(self) -> None:
        """Let go of both sockets; nothing more is moved."""
        for way in self._ways:
            way.stop()

    def _over(self, target: socket.socket, error: OSError | None) -> None:
        if error is None:
            self._open -= 1
            try:
                target.shutdown(socket.SHUT_WR)
            except OSError as gone:
                error = gone
        if error is not None:
            self.stop()
            self._broken()
        elif not self._open:
            self.stop()
            self._ended()
