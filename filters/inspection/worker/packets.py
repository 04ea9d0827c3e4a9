"""Take packets that netd hands on, and answer each with a verdict."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from filters.inspection.assignments import Assignments
from filters.inspection.datagrams import Datagrams
from filters.inspection.worker.opening import Opening, opens
from filters.netd.verdicts import PACKET, PASS, REASONS, RETIRE, VERDICT

_LARGEST: Final = 1 << 17
_BURST: Final = 64  # packets in one turn of the loop: streams must not wait long,
_TURN_S: Final = 0.02  # however long each takes
_NUMBERS: Final = {reason: number for number, reason in enumerate(REASONS, 1)}


class Packets:
    """The connection over which packets come."""

    def __init__(
        self,
        packets: socket.socket,
        datagrams: Datagrams,
        opening: Opening,
        assignments: Callable[[], Assignments],
        retire: Callable[[], None],
    ) -> None:
        """retire: told when a newer inspector is there."""
        self._socket, self._datagrams, self._opening = packets, datagrams, opening
        self._assignments, self._retire = assignments, retire

    async def serve(self) -> None:
        """Judge packets until netd hangs up."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._socket.fileno(), self._burst, over)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._socket.fileno())
            self._opening.close()

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
            (number,), packet = PACKET.unpack_from(data), data[PACKET.size :]
            if number == RETIRE and not packet:
                self._retire()
                continue
            if opens(packet):
                self._opening.ask(packet, partial(self._answer, number))
                continue
            reason = self._datagrams.verdict(packet, assignments, now)
            verdicts += VERDICT.pack(number, _NUMBERS[reason] if reason else PASS)
            if time.monotonic() > now + _TURN_S:
                break
        if verdicts:
            self._socket.send(verdicts)

    def _answer(self, number: int, verdict: int) -> None:
        with contextlib.suppress(OSError):  # netd is away, or does not read: it will say that nobody judged
            self._socket.send(VERDICT.pack(number, verdict))
