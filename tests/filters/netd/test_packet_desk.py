"""Packets that wait for an inspector: one guest's leave room for another's. The queue is a fake, the inspector's socket is real."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Iterator

import pytest

from filters.netd import packet_desk
from filters.netd.packet_desk import MOST_WAITING, PacketDesk
from filters.netd.queue import QueuedPacket, Verdict
from filters.netd.verdicts import PACKET, PASS, VERDICT
from filters.reason import DropReason
from filters.ruleset.names import MARK_JUDGED


class FakeQueue:
    """Packets to receive, and the verdicts that were given."""

    def __init__(self, _number: int, _copied: int) -> None:
        self.packets: list[QueuedPacket] = []
        self.missed = 0
        self.decided: list[tuple[int, Verdict, int]] = []
        self._wake = os.eventfd(0)

    def fileno(self) -> int:
        return self._wake

    def close(self) -> None:
        os.close(self._wake)

    def receive(self) -> Iterator[QueuedPacket]:
        yield from self.packets
        self.packets.clear()

    def decide(self, packet_ids: Iterable[int], verdict: Verdict, mark: int = 0) -> None:
        self.decided += [(one, verdict, mark) for one in packet_ids]


def packet(number: int, source: int, size: int = 40) -> QueuedPacket:
    head = bytearray(size)
    head[9], head[12:16] = socket.IPPROTO_UDP, bytes([10, 0, 0, source])
    return QueuedPacket(number, bytes(head))


def _desk(monkeypatch: pytest.MonkeyPatch) -> tuple[PacketDesk, FakeQueue]:
    queue = FakeQueue(0, 0)
    monkeypatch.setattr(packet_desk, "PacketQueue", lambda *_: queue)
    return PacketDesk(), queue


def _feed(desk: PacketDesk, queue: FakeQueue, packets: Iterable[QueuedPacket]) -> list[int]:
    """Hand packets on; return which went on unjudged at once."""
    queue.packets, queue.decided = list(packets), []
    desk._receive()
    assert all(one[1:] == (Verdict.ACCEPT, 0) for one in queue.decided)
    return [one[0] for one in queue.decided]


def test_counts_packets_that_found_no_room_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> dict[DropReason, int]:
        desk, queue = _desk(monkeypatch)
        for missed in (3, 3, 5):
            queue.missed = missed
            desk._receive()
        desk.close()
        return desk.dropped

    assert asyncio.run(story()) == {DropReason.RESOURCE_LIMIT: 5}


@pytest.mark.parametrize("size", [40, 60_000])
def test_a_guest_that_floods_leaves_room_for_another(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    async def story() -> None:
        desk, queue = _desk(monkeypatch)
        theirs = desk.admit(0)
        refused = _feed(desk, queue, (packet(one, 1, size) for one in range(2 * MOST_WAITING)))
        assert refused
        assert refused == list(range(refused[0], 2 * MOST_WAITING))
        assert _feed(desk, queue, [packet(9999, 2, size)]) == []
        theirs.close()
        desk.close()

    asyncio.run(story())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_what_was_judged_or_waited_too_long_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_desk, "WAITS_S", 1.0)

    async def story() -> None:
        desk, queue = _desk(monkeypatch)
        theirs = desk.admit(0)
        most = 2 * MOST_WAITING - len(_feed(desk, queue, (packet(one, 1) for one in range(2 * MOST_WAITING))))
        for one in range(most):
            assert PACKET.unpack_from(theirs.recv(4096)) == (one,)
        queue.decided = []
        theirs.send(b"".join(VERDICT.pack(one, PASS) for one in range(most // 2)))
        await _until(lambda: len(queue.decided) >= most // 2)
        assert queue.decided == [(one, Verdict.ACCEPT, MARK_JUDGED) for one in range(most // 2)]
        await _until(lambda: len(queue.decided) >= most)
        assert queue.decided[most // 2 :] == [(one, Verdict.ACCEPT, 0) for one in range(most // 2, most)]
        assert len(_feed(desk, queue, (packet(one, 1) for one in range(most + 5)))) == 5
        theirs.close()
        desk.close()

    asyncio.run(story())
