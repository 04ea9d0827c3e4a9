"""Give inspectors the sockets that only CAP_NET_ADMIN can make: one that listens, and those that speak in peers' names.

An inspector connects to a unix socket, says its number in one byte, and gets the listener, its end for packets (packet_desk.py)
and its end for connections it gives back (handover.py); for each byte N it sends
then, N fresh sockets. All are IP_TRANSPARENT; what may leave through them is decided by the ruleset's chain `inspector_sends`, packet by packet.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from filters.netd.caller import caller_uid
from filters.netd.protocol import no_socket
from filters.netd.tcp_socket import RESETS
from filters.ruleset.names import INSPECTION_PORT, MOST_INSPECTORS

MOST_AT_ONCE: Final = 64
MOST_CONNECTIONS: Final = 2 * MOST_INSPECTORS  # each may be about to be replaced
BACKLOG: Final = 4096
_AGAIN_S: Final = 0.1
_log = logging.getLogger(__name__)


class InspectorSockets:
    """Serve inspectors of one uid. netd keeps no copy of the listener: without an inspector nobody listens."""

    def __init__(self, path: Path, uid: int, admit: Callable[[int], list[socket.socket]]) -> None:
        """admit: makes the other ends that the inspector of a number gets; raises OSError."""
        self._path, self._uid, self._admit = path, uid, admit
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Serve until cancelled; raises NetdError `kernel` when that can't be."""
        server = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            self._listen(server)
            while True:
                await self._accept(server)
                await asyncio.sleep(0)  # accepting yields to nobody while somebody waits
        finally:
            for task in self._tasks:
                task.cancel()
            server.close()

    def _listen(self, server: socket.socket) -> None:
        try:
            self._path.unlink(missing_ok=True)
            server.bind(str(self._path))
            self._path.chmod(0o666)  # who may use it is decided by SO_PEERCRED
            server.listen(8)
        except OSError as error:
            raise no_socket(self._path, error) from error

    async def _accept(self, server: socket.socket) -> None:
        try:
            client, _ = await asyncio.get_running_loop().sock_accept(server)
            uid = caller_uid(client)
        except OSError as error:  # no descriptors are left, for example: some may be again
            _log.warning("no inspector can come now: %s", error)
            await asyncio.sleep(_AGAIN_S)
            return
        why = "may not have inspectors' sockets" if uid != self._uid else ""
        if why or len(self._tasks) >= MOST_CONNECTIONS:
            _log.warning("refused: uid %d %s", uid, why or "has as many connections as may be")
            client.close()
            return
        task = asyncio.create_task(self._attend(client), name="inspector's sockets")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with client, contextlib.suppress(OSError):
            said = await loop.sock_recv(client, 1)
            if not said or said[0] >= MOST_INSPECTORS:
                _log.warning("refused: an inspector says no number below %d", MOST_INSPECTORS)
                return
            try:
                ends = self._admit(said[0])
            except OSError as error:
                _log.warning("refused: inspector %d: %s", said[0], error)
                return
            hand_over(client, [make_listener(said[0]), *ends])
            while wanted := await loop.sock_recv(client, 1):
                hand_over(client, [make_transparent() for _ in range(min(wanted[0], MOST_AT_ONCE))])
                await asyncio.sleep(0)


def make_transparent() -> socket.socket:
    """Make a TCP socket that may bind to any address, with all that an inspector's legs need; raises OSError without CAP_NET_ADMIN.

    What a listener makes has it too, from the first connection on.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # should an inspector be killed: an orderly end would make what has passed look whole
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
    # the kernel asks an idle peer for a sign of life: one whose lease has ended can't say that it went
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4)):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def make_listener(number: int) -> socket.socket:
    """Make the socket that tproxy leads to. An inspector and the one that replaces it listen at one port for a while."""
    listener = make_transparent()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", INSPECTION_PORT + number))
    listener.listen(BACKLOG)
    return listener


def hand_over(client: socket.socket, sockets: list[socket.socket]) -> None:
    """Send sockets and forget them here."""
    try:
        socket.send_fds(client, [bytes([len(sockets)])], [one.fileno() for one in sockets])
    finally:
        for one in sockets:
            one.close()
