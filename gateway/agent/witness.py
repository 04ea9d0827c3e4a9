"""Witness deliveries: remember what the kernel received on connections that ended."""

import asyncio
from collections import OrderedDict

from gateway.agent.tcp_diag import Connection, TcpCount, TcpDiag

REMEMBERED = 4096
SETTLE_S = 0.5


class Witness:
    """Answers how many bytes came in on a connection, whether it still lives or not."""

    def __init__(self, diag: TcpDiag) -> None:
        self._diag = diag
        self._past: OrderedDict[Connection, TcpCount] = OrderedDict()

    def start(self) -> None:
        """Listen for the kernel's announcements."""
        asyncio.get_running_loop().add_reader(self._diag.fileno(), self._collect)

    def stop(self) -> None:
        """Stop listening."""
        asyncio.get_running_loop().remove_reader(self._diag.fileno())

    def _collect(self) -> None:
        for connection, count in self._diag.closed():
            self._past[connection] = count
            self._past.move_to_end(connection)
        while len(self._past) > REMEMBERED:
            self._past.popitem(last=False)

    async def received(self, connection: Connection, wanted: int) -> tuple[int, str]:
        """Return the payload bytes received and the connection's state; waits a little for `wanted` of them."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while True:
            self._collect()
            count = self._diag.find(connection) or self._past.get(connection)
            arrived = count is not None and count.payload_received >= wanted
            if arrived or asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.02)
        if count is None:
            return 0, "unknown"
        return count.payload_received, "closed" if count.closed else "open"
