"""Take packets that netd hands on, and answer each with a verdict."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final

from filters.inspection.assignments import Assignments
from filters.inspection.datagrams import Datagrams
from filters.netd.verdicts import PACKET, REASONS, VERDICT

_LARGEST: Final = 1 << 17
_BURST: Final = 64  # packets in one turn of the loop: streams must not wait long
_NUMBERS: Final = {reason: number for number, reason in enumerate(REASONS, 1)}


class Packets:
    """The connection over which packets come."""

    def __init__(
        self, packets: socket.socket, datagrams: Datagrams, assignments: Callable[[], Assignments]
    ) -> None:
        self._socket, self._datagrams, self._assignments = packets, datagrams, assignments

    async def serve(self) -> None:
        """Judge packets until netd hangs up."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._socket.fileno(), self._burst, over)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._socket.fileno())

    def _burst(self, over: asyncio.Event) -> None:
        assignments, now, verdicts = self._assignments(), time.monotonic(), bytearray()
        for _ in range(_BURST):
            try:
                data = self._socket.recv(_LARGEST)
            except BlockingIOError:
                break
            if not data:
                over.set()
                break
            reason = self._datagrams.verdict(data[PACKET.size :], assignments, now)
            (number,) = PACKET.unpack_from(data)
            verdicts += VERDICT.pack(number, _NUMBERS[reason] if reason else 0)
        if verdicts:
            self._socket.send(verdicts)
