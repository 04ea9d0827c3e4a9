"""One leg of an inspected connection: a socket, what waits to be sent on it, and its end.

Not asyncio's transports: a connection that asks once and closes would spend half of its time in them.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Final, Protocol, cast

from filters.inspection.finding import Direction
from filters.netd.tcp_socket import RESETS

HIGH, LOW = 64 << 10, 16 << 10  # of what waits to be sent: above, nothing more is read
_IN_ORDER: Final = struct.pack("ii", 0, 0)


class Carrier(Protocol):
    """What a leg belongs to, and what it hears from the leg of a direction."""

    @property
    def read_size(self) -> int:
        """How many bytes a leg may read at once now."""

    def received(self, direction: Direction, data: bytes) -> None:
        """Take bytes."""

    def ended(self, direction: Direction) -> None:
        """Take the orderly end of what comes; the other direction stays open."""

    def can_send(self, direction: Direction, *, more: bool) -> None:
        """Hear whether the receiver of a direction takes more."""

    def closed(self, direction: Direction) -> None:
        """Hear that the leg was closed in order, and is gone."""

    def reset(self) -> None:
        """Hear that the leg broke, and end both."""


class Leg:
    """`direction` is that of the bytes which come in here."""

    def __init__(self, carrier: Carrier, direction: Direction) -> None:
        self._carrier, self._direction = carrier, direction
        self._sock: socket.socket | None = None
        self._fd: (
            int  # what the loop knows it by: it would describe a socket in words, at the cost of many calls
        )
        self._loop: asyncio.AbstractEventLoop
        self._unsent = bytearray()
        self._high, self._low = HIGH, LOW
        self._is_full = False  # more waits to be sent than should
        self._reads = False
        self._ended = False  # what comes here is over
        self._end_due = False  # so is what is sent here, but for what waits
        self._closing = False

    def begin(self, sock: socket.socket) -> None:
        """Carry this connected socket, which closes with a reset: what has passed must not look whole should this process be killed."""
        self._sock, self._fd, self._loop = sock, sock.fileno(), asyncio.get_running_loop()

    @property
    def sock(self) -> socket.socket:
        """The leg's socket; only while it is there."""
        return cast("socket.socket", self._sock)

    @property
    def is_idle(self) -> bool:
        """Tell whether the leg is there and nothing waits to be sent on it."""
        return self._sock is not None and not self._closing and not self._unsent

    def read_on(self, more: bool) -> None:
        """Read, or leave what comes in the kernel: back-pressure is its business."""
        more = more and not self._ended
        if self._sock is None or self._closing or more == self._reads:
            return
        self._reads = more
        if more:
            self._loop.add_reader(self._fd, self._read)
        else:
            self._loop.remove_reader(self._fd)

    def _read(self) -> None:
        try:
            data = self.sock.recv(self._carrier.read_size)
        except BlockingIOError:
            return
        except (OSError, MemoryError):
            self._break()
            return
        if data:
            self._carrier.received(self._direction, data)
        else:
            self.read_on(False)
            self._ended = True
            self._carrier.ended(self._direction)

    def send(self, data: bytes) -> None:
        """Send bytes, now or when the receiver takes them."""
        if self._sock is None or self._closing or not data:
            return
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except (OSError, MemoryError):
                # the socket's error is used up: what would be read next looks like an orderly end
                self.read_on(False)
                self._closing = True
                self._loop.call_soon(self._break)  # not now: whoever sends is amid something
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self._fd, self._send_on)
        self._unsent += data
        self._stop_when_full()

    def _send_on(self) -> None:
        try:
            del self._unsent[: self.sock.send(self._unsent)]
        except BlockingIOError:
            return
        except (OSError, MemoryError):
            self._break()
            return
        if self._is_full and len(self._unsent) <= self._low:
            self._is_full = False
            self._carrier.can_send(self._direction.other, more=True)
        if self._unsent or self._sock is None:
            return
        self._loop.remove_writer(self._fd)
        if self._closing:
            self._close()
        elif self._end_due:
            self._shut()

    def send_before_reading(self) -> None:
        """From now on, read nothing more from the other leg until all that came is sent."""
        self._high = self._low = 0
        self._stop_when_full()

    def _stop_when_full(self) -> None:
        if not self._is_full and len(self._unsent) > self._high:
            self._is_full = True
            self._carrier.can_send(self._direction.other, more=False)

    def send_end(self) -> None:
        """Send the orderly end, once what waits is sent."""
        if self._sock is None or self._closing:
            return
        if not self._end_due:
            self._end_due = True
            if not self._unsent:
                self._shut()
        if self._ended:
            self.close()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close in order, once what waits is sent."""
        if self._sock is None or self._closing:
            return
        self.read_on(False)
        self._closing = True
        if not self._unsent:
            self._loop.call_soon(self._close)  # not now: whoever closes is amid something

    def _close(self) -> None:
        if self._sock is not None:
            self._linger(_IN_ORDER)
            self._sock.close()
            self._sock = None
            self._carrier.closed(self._direction)

    def reset(self) -> None:
        """End with a reset, at once: not one more byte leaves."""
        if self._sock is not None:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._unsent.clear()
            self._linger(RESETS)
            self._sock.close()
            self._sock = None

    def _break(self) -> None:
        if self._sock is not None:
            self._carrier.reset()  # first: what else uses the socket lets go of it
            self.reset()

    def _linger(self, how: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
