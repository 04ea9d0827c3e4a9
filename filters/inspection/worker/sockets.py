"""Get sockets from netd, and choose the ports that the far legs use."""

import asyncio
import errno
import secrets
import socket
from collections import defaultdict
from pathlib import Path
from typing import Final

from filters.errors import FiltersError
from filters.inspection.worker.windows import offer
from filters.ruleset.names import MOST_INSPECTORS

AT_ONCE: Final = 16
# Far legs speak in a guest's name from ports that guests' own connections hardly use: a far leg with the client's own
# port would be the same connection as the near leg, for conntrack.
FIRST_PORT, LAST_PORT = 1024, 32767


class SocketsLost(FiltersError):
    """netd gives no sockets."""


class Sockets:
    """The connection to netd."""

    def __init__(
        self,
        client: socket.socket,
        listener: socket.socket,
        packets: socket.socket,
        returns: socket.socket,
        number: int,
    ) -> None:
        self._client, self.listener, self.packets, self._returns = client, listener, packets, returns
        self._spare: list[socket.socket] = []
        self._lock, self._returning = asyncio.Lock(), asyncio.Lock()
        self._exchanges: set[asyncio.Task[bytes]] = set()
        # inspectors side by side begin at different places, and each anew elsewhere, so that they seldom try the same port:
        # one that ended may have left connections which the kernel carries now
        share = (LAST_PORT - FIRST_PORT) // MOST_INSPECTORS
        first = FIRST_PORT + number * share + secrets.randbelow(share)
        self._ports: defaultdict[tuple[str, str, int], int] = defaultdict(lambda: first)

    @classmethod
    async def connect(cls, path: Path, number: int) -> "Sockets":
        """Connect as the inspector of this number and take the listener; raises SocketsLost."""
        client = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            await asyncio.get_running_loop().sock_connect(client, str(path))
            await asyncio.get_running_loop().sock_sendall(client, bytes([number]))
        except OSError as error:
            client.close()
            raise SocketsLost("away", f"netd does not answer at {path.name}: {error.strerror}") from error
        listener, packets, returns = await _receive(client)
        return cls(client, listener, packets, returns, number)

    async def watch(self) -> None:
        """Return only by raising SocketsLost, when netd goes. Answers are read by who asked."""
        poll = asyncio.Event()
        while True:
            try:
                await asyncio.wait_for(poll.wait(), 0.5)
            except TimeoutError:
                async with self._lock:
                    await self._refill()

    async def far_leg(
        self, client: tuple[str, int], server: tuple[str, int], shift: int | None = None
    ) -> socket.socket:
        """Connect to the server in the client's name, with its window scale; raises OSError as the server's answer says."""
        key = (client[0], *server)
        while True:
            made = await self._take()
            port = self._ports[key]
            self._ports[key] = FIRST_PORT if port >= LAST_PORT else port + 1
            if port == client[1]:
                self._spare.append(made)
                continue
            try:
                if shift is not None:
                    offer(made, shift)
                made.bind((client[0], port))
                await _connect(made, server)
            except OSError as error:
                made.close()
                if error.errno not in {errno.EADDRINUSE, errno.EADDRNOTAVAIL}:
                    raise
            except BaseException:
                made.close()
                raise
            else:
                return made

    async def give_back(self, verb: bytes, near: socket.socket, far: socket.socket) -> bytes:
        """Ask netd something about two legs of a connection; return what it says (filters/netd/verdicts.py). Raises SocketsLost."""
        # to its end, also where nobody waits for it any more: the next answer must be the next question's
        exchange = asyncio.create_task(self._exchange(verb, near, far), name="hand back")
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        return await asyncio.shield(exchange)

    async def _exchange(self, verb: bytes, near: socket.socket, far: socket.socket) -> bytes:
        async with self._returning:
            try:
                socket.send_fds(self._returns, [verb], [near.fileno(), far.fileno()])
                answer = await asyncio.get_running_loop().sock_recv(self._returns, 256)
            except OSError as error:
                raise SocketsLost("away", f"netd hung up: {error.strerror}") from error
        if not answer:
            raise SocketsLost("away", "netd hung up")
        return answer

    async def _take(self) -> socket.socket:
        async with self._lock:
            await self._refill()
            return self._spare.pop()

    async def _refill(self) -> None:
        if not self._spare:
            try:
                await asyncio.get_running_loop().sock_sendall(self._client, bytes([AT_ONCE]))
            except OSError as error:
                raise SocketsLost("away", f"netd hung up: {error.strerror}") from error
            self._spare += await _receive(self._client)


async def _connect(made: socket.socket, server: tuple[str, int]) -> None:
    try:
        made.connect(server)
    except BlockingIOError:
        # connecting once more asks whether the server has answered by now, as one on the same host has; if not, this waits
        await asyncio.get_running_loop().sock_connect(made, server)


async def _receive(client: socket.socket) -> list[socket.socket]:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(client.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(client.fileno())
    count, descriptors, _, _ = socket.recv_fds(client, 1, AT_ONCE + 1)
    if not count or not descriptors:
        raise SocketsLost("away", "netd gives no sockets: it went, or another user may have them")
    found = [socket.socket(fileno=one) for one in descriptors]
    for one in found:
        one.setblocking(False)
    return found
