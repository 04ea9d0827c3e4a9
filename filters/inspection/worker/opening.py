"""Open the far leg of a connection before its near one: a client gets the server's own answer, also a refusal or silence."""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from filters.errors import FiltersError
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
_UNREADABLE: Final = REASONS.index(DropReason.PARSE_ERROR) + 1

Ends = tuple[Endpoint, Endpoint]
# the last: the window scale that the client offers (windows.py)
Connect = Callable[[Endpoint, Endpoint, int | None], Awaitable[socket.socket]]
Reply = Callable[[int], None]  # hears a verdict


class FarLeg:
    """A far leg on its way, or there, and those who wait to hear how it went."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.far: socket.socket | None = None
        self.error = ""
        self.timer: asyncio.TimerHandle | None = None
        self.verdict: int | None = None
        self._waiting: list[Reply] = []

    def ask(self, reply: Reply) -> None:
        """Reply once the server has answered, or is silent for long."""
        if self.verdict is not None:
            reply(self.verdict)
            return
        if not self._waiting:
            self.timer = asyncio.get_running_loop().call_later(ANSWER_WITHIN_S, self._answer, _SILENT)
        self._waiting.append(reply)

    def settle(self, verdict: int) -> bool:
        """Say what became of it; tell whether anybody heard it."""
        self.verdict, heard = verdict, bool(self._waiting)
        self.stop_waiting()
        self._answer(verdict)
        return heard

    def stop_waiting(self) -> None:
        """Let nothing happen any more because time passes."""
        if self.timer:
            self.timer.cancel()

    def _answer(self, verdict: int) -> None:
        waiting, self._waiting = self._waiting, []
        for reply in waiting:
            reply(verdict)


class Opening:
    """Far legs that wait for their near leg."""

    def __init__(self, connect: Connect, assigned: Callable[[Endpoint, Endpoint], bool]) -> None:
        """assigned: whether anybody said how to inspect such a connection."""
        self._connect, self._assigned = connect, assigned
        self._legs: dict[Ends, FarLeg] = {}
        self._shares = Shares(MOST)
        self._taken: set[Ends] = set()
        self._ports: OrderedDict[Ends, int] = OrderedDict()

    def ask(self, packet: bytes, reply: Reply) -> None:
        """Have the verdict on the packet that opens a connection said, once the server has answered."""
        try:
            ends = read_ends(packet)
        except Unreadable:
            reply(_UNREADABLE)
            return
        if not self._assigned(*ends):
            reply(_UNASSIGNED)
        elif ends in self._taken:
            reply(PASS)  # a first packet that was repeated needlessly
        elif leg := self._legs.get(ends):
            leg.ask(reply)
            if leg.verdict == REFUSED:
                self._forget(ends)  # it is heard: the next one asks anew
        elif not self._shares.take(_guests(ends)):
            reply(_FULL)
        else:
            leg = self._legs[ends] = FarLeg()
            leg.ask(reply)
            leg.task = asyncio.create_task(self._open(leg, ends, read_shift(packet)), name="far leg")

    async def take(self, client: Endpoint, server: Endpoint) -> socket.socket:
        """Return the far leg of a connection that was accepted; raises OSError."""
        ends = client, server
        leg = self._forget(ends)
        self._taken.add(ends)
        if leg is None:
            await self._open(leg := FarLeg(), ends, None)
        elif leg.task:
            await leg.task
        if leg.far is None:
            raise ConnectionAbortedError(leg.error)
        self._ports[ends] = leg.far.getsockname()[1]
        if len(self._ports) > REMEMBERED:
            self._ports.popitem(last=False)
        return leg.far

    def port_of(self, client: Endpoint, server: Endpoint) -> int:
        """Return the port that the server saw of a connection, also when it is over; 0 when nobody remembers."""
        return self._ports.get((client, server), 0)

    def over(self, client: Endpoint, server: Endpoint) -> None:
        """Say that a connection whose far leg was taken, or could not be, is over."""
        self._taken.discard((client, server))

    async def _open(self, leg: FarLeg, ends: Ends, shift: int | None) -> None:
        verdict = _SILENT
        try:
            async with asyncio.timeout(CONNECT_S):
                leg.far = await self._connect(*ends, shift)
            verdict = PASS
        except (OSError, FiltersError) as error:
            leg.error = str(error)
            if isinstance(error, ConnectionRefusedError):
                verdict = REFUSED
        heard = leg.settle(verdict)
        if self._legs.get(ends) is not leg:
            return  # it was taken meanwhile
        if verdict == REFUSED and heard:
            self._forget(ends)
        else:
            leg.timer = asyncio.get_running_loop().call_later(TAKEN_WITHIN_S, self._drop, ends)

    def _drop(self, ends: Ends) -> None:
        """Close what nobody takes: its client went away."""
        if (leg := self._forget(ends)) and leg.far:
            leg.far.close()

    def _forget(self, ends: Ends) -> FarLeg | None:
        if leg := self._legs.pop(ends, None):
            self._shares.give(_guests(ends))
            leg.stop_waiting()
        return leg

    def close(self) -> None:
        """Close all that wait."""
        for ends, leg in list(self._legs.items()):
            if leg.task and not leg.task.done():
                leg.task.cancel()
            else:
                self._drop(ends)


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
