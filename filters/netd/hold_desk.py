"""Join the hold book with the queue: who comes waits or goes, and nobody waits too long."""

import asyncio
import time
from collections.abc import Callable

from filters.errors import NetdError
from filters.flow import FlowKey
from filters.netd.hold import Hold, HoldBook, Waiting
from filters.netd.packet import read_flow
from filters.netd.protocol import Event, Held, HoldDropped, Lost, NetdCode
from filters.netd.queue import PacketQueue, QueuedPacket, Verdict
from filters.reason import DropReason
from filters.ruleset.names import HOLD_QUEUE_NUMBER


class HoldDesk:
    """Serve the hold queue on the running event loop.

    may_wait: tells whether a key's first packet may wait now (on demand, and no lease in force yet).
    A packet that may not goes on to the lease lookup, which lets it pass or tells its sender why not.
    """

    def __init__(self, may_wait: Callable[[FlowKey], bool], emit: Callable[[Event], None]) -> None:
        self.dropped: dict[DropReason, int] = {}
        self._may_wait, self._emit = may_wait, emit
        self._book = HoldBook()
        self._queue = PacketQueue(HOLD_QUEUE_NUMBER)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._missed = 0
        self._loop.add_reader(self._queue.fileno(), self._receive)

    def __len__(self) -> int:
        return len(self._book)

    def close(self) -> None:
        """Stop; the kernel drops what still waits."""
        self._loop.remove_reader(self._queue.fileno())
        if self._timer:
            self._timer.cancel()
        self._queue.close()

    def release(self, hold_id: int) -> None:
        """Let held packets go on to the lease lookup; raises NetdError `no-such-hold`."""
        hold = self._book.take(hold_id)
        if hold is None:
            raise NetdError(NetdCode.NO_SUCH_HOLD.value, f"no hold {hold_id}", hold_id=hold_id)
        self._queue.decide(hold.packets.values(), Verdict.ACCEPT)

    def drop_all(self) -> None:
        """Drop everything that waits, without events: nobody is there to read them, and nobody is trusted any more."""
        for hold in self._book.clear():
            self._queue.decide(hold.packets.values(), Verdict.DROP)
            self._count(DropReason.NOT_ATTESTED, len(hold.packets))

    def _receive(self) -> None:
        for packet in self._queue.receive():
            self._take(packet)
        if missed := self._queue.missed - self._missed:
            self._emit(Lost("hold-queue", missed))
            self._count(DropReason.RESOURCE_LIMIT, missed)
            self._missed += missed
        self._arm()

    def _take(self, packet: QueuedPacket) -> None:
        flow = read_flow(packet.head)
        if flow is None or not self._may_wait(flow.key):
            self._queue.decide([packet.packet_id], Verdict.ACCEPT)
            return
        outcome = self._book.offer(packet.packet_id, flow, time.monotonic())
        if isinstance(outcome, Waiting):
            if outcome.first:
                self._emit(Held(outcome.hold_id, flow.key))
            return
        self._queue.decide([packet.packet_id], Verdict.DROP)
        self._count(outcome.reason, 1)
        self._emit(HoldDropped(0, flow.key, outcome.reason))

    def _arm(self) -> None:
        due = self._book.next_expiry()
        if due is not None and self._timer is None:
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        for hold in self._book.expired(time.monotonic()):
            self._drop(hold)
        self._arm()

    def _drop(self, hold: Hold) -> None:
        self._queue.decide(hold.packets.values(), Verdict.DROP)
        self._count(DropReason.HOLD_TIMEOUT, len(hold.packets))
        self._emit(HoldDropped(hold.hold_id, hold.key, DropReason.HOLD_TIMEOUT))

    def _count(self, reason: DropReason, packets: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + packets
