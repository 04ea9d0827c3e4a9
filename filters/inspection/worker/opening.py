"""Open the far leg of a connection before its near one: a client gets the server's own answer, also a refusal or silence."""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from filters.inspection.datagrams import Endpoint
from filters.inspection.packet import TCP, Unreadable, parse_ip, parse_transport
from filters.inspection.worker.windows import read_shift
from filters.netd.verdicts import PASS, REASONS, REFUSED
from filters.reason import DropReason
from filters.shares import Shares

ANSWER_WITHIN_S: Final = 0.4  # below what netd waits; the client repeats its packet after a second
CONNECT_S: Final = 10.0
TAKEN_WITHIN_S: Final = 5.0
MOST: Final = 1024
REMEMBERED: Final = 8192
_SILENT: Final = REASONS.index(DropReason.HOLD_TIMEOUT) + 1
_UNASSIGNED: Final = REASONS.index(DropReason.INSPECTOR_DOWN) + 1
_FULL: Final = REASONS.index(DropReason.RESOURCE_LIMIT) + 1

Ends = tuple[Endpoint, Endpoint]
# the last: the window scale that the client offers (windows.py)
Connect = Callable[[Endpoint, Endpoint, int | None], Awaitable[socket.socket]]


class Opening:
    """Far legs that wait for their near leg."""

    def __init__(self, connect: Connect, assigned: Callable[[Endpoint, Endpoint], bool]) -> None:
        """assigned: whether anybody said how to inspect such a connection."""
        self._connect, self._assigned = connect, assigned
        self._legs: dict[Ends, asyncio.Task[socket.socket]] = {}
        self._shares = Shares(MOST)
        self._taken: set[Ends] = set()
        self._ports: OrderedDict[Ends, int] = OrderedDict()

    async def answer(self, packet: bytes) -> int:
        """Return the verdict on the packet that opens a connection, once the server has answered."""
        try:
            ends = read_ends(packet)
        except Unreadable:
            return REASONS.index(DropReason.PARSE_ERROR) + 1
        if not self._assigned(*ends):
            return _UNASSIGNED
        if ends in self._taken:
            return PASS  # a first packet that was repeated needlessly
        leg = self._legs.get(ends)
        if leg is None:
            if not self._shares.take(_guests(ends)):
                return _FULL
            leg = self._legs[ends] = asyncio.create_task(
                self._open(*ends, read_shift(packet)), name="far leg"
            )
            leg.add_done_callback(lambda _: self._later(ends))
        try:
            await asyncio.wait_for(asyncio.shield(leg), ANSWER_WITHIN_S)
        except ConnectionRefusedError:
            self._forget(ends)
            return REFUSED
        except (OSError, TimeoutError):
            return _SILENT
        return PASS

    async def take(self, client: Endpoint, server: Endpoint) -> socket.socket:
        """Return the far leg of a connection that was accepted; raises OSError, TimeoutError."""
        leg = self._forget((client, server))
        self._taken.add((client, server))
        far = await (leg or self._open(client, server))
        self._ports[client, server] = far.getsockname()[1]
        if len(self._ports) > REMEMBERED:
            self._ports.popitem(last=False)
        return far

    def port_of(self, client: Endpoint, server: Endpoint) -> int:
        """Return the port that the server saw of a connection, also when it is over; 0 when nobody remembers."""
        return self._ports.get((client, server), 0)

    def over(self, client: Endpoint, server: Endpoint) -> None:
        """Say that a connection whose far leg was taken, or could not be, is over."""
        self._taken.discard((client, server))

    async def _open(self, client: Endpoint, server: Endpoint, shift: int | None = None) -> socket.socket:
        async with asyncio.timeout(CONNECT_S):
            return await self._connect(client, server, shift)

    def _later(self, ends: Ends) -> None:
        """Close what nobody takes: its client went away."""
        asyncio.get_running_loop().call_later(TAKEN_WITHIN_S, self._drop, ends, self._legs.get(ends))

    def _drop(self, ends: Ends, leg: asyncio.Task[socket.socket] | None) -> None:
        if leg is None or self._legs.get(ends) is not leg:
            return
        self._forget(ends)
        if not leg.cancelled() and leg.exception() is None:
            leg.result().close()

    def _forget(self, ends: Ends) -> asyncio.Task[socket.socket] | None:
        if (leg := self._legs.pop(ends, None)) is not None:
            self._shares.give(_guests(ends))
        return leg

    def close(self) -> None:
        """Close all that wait."""
        for ends, leg in list(self._legs.items()):
            if leg.done():
                self._drop(ends, leg)
            else:
                leg.cancel()


def _guests(ends: Ends) -> tuple[str, str]:
    return ends[0][0], ends[1][0]


def opens(packet: bytes) -> bool:
    """Tell whether a packet is TCP's: only those that open a connection come here."""
    return len(packet) > 9 and packet[9] == TCP


def read_ends(untrusted_packet: bytes) -> Ends:
    """Read client and server; raises Unreadable."""
    source, destination, whole = parse_ip(untrusted_packet)
    packet = parse_transport(source, destination, whole.protocol, whole.data)
    return (packet.source, packet.source_port), (packet.destination, packet.destination_port)
