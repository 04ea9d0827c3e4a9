"""Exchange netlink messages with the kernel: requests, batches and dumps on one blocking-free socket."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Final, Self

from filters.errors import NetdError
from filters.netd import netlink as nl
from filters.netd.protocol import NetdCode

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
_RECEIVE: Final = 1 << 18
_ARRIVING: Final = 1 << 17
_BUFFER: Final = 1 << 22
_SO_RCVBUFFORCE: Final = 33
_SO_SNDBUFFORCE: Final = 32
_DUMP_TRIES: Final = 5


class NetlinkSocket:
    """One netlink socket. The kernel handles a request while it is sent, so answers are there at once."""

    def __init__(self, protocol: int = NETLINK_NETFILTER, buffer: int = _BUFFER) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        with contextlib.suppress(PermissionError):
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, buffer)
        self.socket.bind((0, 0))
        self.socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; queues and log groups bound to it end."""
        self.socket.close()

    def sequence(self, count: int = 1) -> int:
        """Take `count` sequence numbers and return the first."""
        first = self._sequence + 1
        self._sequence = (self._sequence + count) % 0x7FFFFFFF
        return first

    def execute(self, raw: bytes, last: int, what: str) -> list[nl.Message]:
        """Send messages and return the answers; `last` is the sequence number that must be acknowledged.

        Raises NetdError `kernel` with `errno` of the first refusal.
        """
        self._send(raw, what)
        answers: list[nl.Message] = []
        acknowledged = False
        for message in self._receive(what):
            if message.error:
                self._drain()
                raise _refused(message.error, what)
            acknowledged |= message.error == 0 and message.sequence == last
            if message.error is None:
                answers.append(message)
        if not acknowledged:
            raise NetdError(NetdCode.KERNEL.value, f"{what}: the kernel did not acknowledge", errno=None)
        return answers

    def arrived(self, kind: int, most: int) -> Iterator[bytes]:
        """Yield the payloads of one type of message in what has come by itself, with at most so many reads."""
        for _ in range(most):
            try:
                data = self.socket.recv(_ARRIVING)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue  # what found no room is told by the gap in its numbers
            for message in nl.messages(data):
                if message.type == kind:
                    yield message.payload

    def dump(self, raw: bytes, what: str, *, steady: bool = True) -> list[nl.Message]:
        """Send a dump request and return its messages.

        When something changed meanwhile, a steady dump begins anew (a few times, then NetdError `kernel`);
        one that is not may miss or repeat what was changing.
        """
        for _ in range(_DUMP_TRIES):
            self._send(raw, what)
            answers, disturbed = self._dump_once(what)
            if not (disturbed and steady):
                return answers
        raise _refused(errno.EINTR, what)

    def _dump_once(self, what: str) -> tuple[list[nl.Message], bool]:
        answers: list[nl.Message] = []
        disturbed = False
        while True:
            for message in self._receive(what, wait=True):
                if message.error:
                    if message.error == errno.EINTR:
                        return [], True
                    raise _refused(message.error, what)
                disturbed |= bool(message.flags & nl.NLM_F_DUMP_INTR)
                if message.type == nl.NLMSG_DONE:
                    return answers, disturbed
                answers.append(message)

    def _send(self, raw: bytes, what: str) -> None:
        try:
            self.socket.sendto(raw, (0, 0))
        except OSError as error:
            raise _refused(error.errno or errno.EIO, what) from error

    def _receive(self, what: str, *, wait: bool = False) -> Iterator[nl.Message]:
        while True:
            try:
                data = self.socket.recv(_RECEIVE)
            except BlockingIOError:
                if wait:
                    raise NetdError(NetdCode.KERNEL.value, f"{what}: the dump ended early") from None
                return
            except OSError as error:
                raise _refused(error.errno or errno.EIO, what) from error
            yield from nl.messages(data)
            if wait:
                return

    def _drain(self) -> None:
        with contextlib.suppress(OSError):
            while self.socket.recv(_RECEIVE):
                pass


def _refused(number: int, what: str) -> NetdError:
    return NetdError(NetdCode.KERNEL.value, f"{what}: {os.strerror(number)}", errno=number)
