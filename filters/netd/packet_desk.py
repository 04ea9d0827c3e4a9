"""Hand queued packets to inspectors and carry out what they say (verdicts.py). netd itself never looks into a packet.

Each inspector has a number; a flow's packets all go to one of them. A packet that nobody judges in time goes on without the mark that says so: the ruleset drops it as `inspector-down`.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from filters.flow import Protocol
from filters.netd.packet import spread
from filters.netd.queue import WHOLE, PacketQueue, QueuedPacket, Verdict
from filters.netd.verdicts import PACKET, PASS, REASONS, REFUSED, RETIRE, VERDICT
from filters.reason import DropReason
from filters.ruleset.names import INSPECTION_QUEUE_NUMBER, MARK_JUDGED, MARK_REFUSED, opening_mark
from filters.shares import Shares

WAITS_S: Final = 0.5
MOST_WAITING: Final = 2048
_ROOM: Final = 4 << 20  # bytes of packets on their way to one inspector
_LEAST: Final = _ROOM // MOST_WAITING  # what a smaller packet counts
_SO_SNDBUFFORCE: Final = 32  # asm-generic/socket.h
_TCP: Final = bytes([Protocol.TCP])
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    inspector: socket.socket
    until: float
    mark: int  # what it bears when it may pass
    source: tuple[bytes]  # whose share of the room it takes
    size: int


class PacketDesk:
    """Serve the inspection queue on the running event loop."""

    def __init__(self) -> None:
        self.dropped: dict[DropReason, int] = {}
        self._queue = PacketQueue(INSPECTION_QUEUE_NUMBER, WHOLE)
        self._missed = 0
        self._inspectors: set[socket.socket] = set()  # those that retire answer what they were asked
        self._serving: dict[int, socket.socket] = {}  # by the inspector's number
        self._numbers: tuple[int, ...] = ()
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._shares = Shares(_ROOM)
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._queue.fileno(), self._receive)

    def __len__(self) -> int:
        return len(self._inspectors)

    def admit(self, number: int) -> socket.socket:
        """Return a new inspector's end; packets go there from now on, and a former one of this number is told to retire."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        # an inspector has not the right to so much, and its verdicts must find room
        for one in (ours, theirs):
            one.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM)
        if former := self._serving.get(number):
            with contextlib.suppress(OSError):
                former.send(PACKET.pack(RETIRE))
        self._serving[number] = ours
        self._numbers = tuple(sorted(self._serving))
        self._inspectors.add(ours)
        self._loop.add_reader(ours.fileno(), self._answered, ours)
        return theirs

    def close(self) -> None:
        """Stop; the kernel drops what still waits."""
        for inspector in list(self._inspectors):
            self._dismiss(inspector)
        if self._timer:
            self._timer.cancel()
        self._loop.remove_reader(self._queue.fileno())
        self._queue.close()

    def _receive(self) -> None:
        until = time.monotonic() + WAITS_S
        for packet in self._queue.receive():
            self._hand_on(packet, until)
        if missed := self._queue.missed - self._missed:
            self._count(DropReason.RESOURCE_LIMIT, missed)
            self._missed += missed
        self._arm()

    def _hand_on(self, packet: QueuedPacket, until: float) -> None:
        source, size = (packet.head[12:16],), max(len(packet.head), _LEAST)
        if self._numbers and self._shares.take(source, size):
            number = self._numbers[spread(packet.head) % len(self._numbers)]
            inspector = self._serving[number]
            opens = packet.head[9:10] == _TCP
            mark = opening_mark(number) if opens else MARK_JUDGED
            self._waiting[packet.packet_id] = _Waiting(inspector, until, mark, source, size)
            try:
                inspector.send(PACKET.pack(packet.packet_id) + packet.head)
                return
            except OSError:  # full, or gone: then nobody judges it
                self._forget(packet.packet_id)
        self._queue.decide([packet.packet_id], Verdict.ACCEPT)

    def _forget(self, packet_id: int) -> None:
        waiting = self._waiting.pop(packet_id)
        self._shares.give(waiting.source, waiting.size)

    def _answered(self, inspector: socket.socket) -> None:
        try:
            answer = inspector.recv(1 << 16)
            if not answer or len(answer) % VERDICT.size:
                raise ConnectionError("an inspector hung up or speaks otherwise")
            for packet_id, number in VERDICT.iter_unpack(answer):
                self._decide(inspector, packet_id, number)
        except BlockingIOError:
            return
        except (OSError, IndexError) as error:
            _log.warning("an inspector of packets is dismissed: %s", error)
            self._dismiss(inspector)

    def _decide(self, inspector: socket.socket, packet_id: int, number: int) -> None:
        waiting = self._waiting.get(packet_id)
        if waiting is None or waiting.inspector is not inspector:
            return  # too late, or another's
        if number in (PASS, REFUSED):
            mark = waiting.mark if number == PASS else MARK_REFUSED
            self._queue.decide([packet_id], Verdict.ACCEPT, mark)
        else:
            reason = REASONS[number - 1]
            self._queue.decide([packet_id], Verdict.DROP)
            self._count(reason, 1)
        self._forget(packet_id)

    def _count(self, reason: DropReason, packets: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + packets

    def _dismiss(self, inspector: socket.socket) -> None:
        self._loop.remove_reader(inspector.fileno())
        self._inspectors.remove(inspector)
        self._serving = {number: one for number, one in self._serving.items() if one is not inspector}
        self._numbers = tuple(sorted(self._serving))
        inspector.close()
        gone = [packet_id for packet_id, one in self._waiting.items() if one.inspector is inspector]
        for packet_id in gone:
            self._forget(packet_id)
        self._queue.decide(gone, Verdict.ACCEPT)

    def _arm(self) -> None:
        if self._waiting and self._timer is None:
            first = next(iter(self._waiting.values()))
            self._timer = self._loop.call_later(max(0.0, first.until - time.monotonic()), self._expire)

    def _expire(self) -> None:
        self._timer, now = None, time.monotonic()
        while self._waiting and next(iter(self._waiting.values())).until <= now:
            expired = next(iter(self._waiting))
            self._forget(expired)
            self._queue.decide([expired], Verdict.ACCEPT)
        self._arm()
