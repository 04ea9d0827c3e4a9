"""A leg: what is sent waits for its receiver, ends come after it, a reset loses it, and nobody is told amid what he does."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from filters.inspection.finding import Direction
from filters.inspection.worker.leg import HIGH, LOW, Leg
from filters.netd.tcp_socket import RESETS
from tests.filters.inspection.drive import connected

MUCH = os.urandom(8 << 20)


class Heard:
    """A carrier that writes down what it hears."""

    read_size = 1000

    def __init__(self) -> None:
        self.said: list[str] = []
        self.got = b""
        self.look: Callable[[], int] = lambda: 0
        self.waited = 0  # bytes, when more could be sent

    def received(self, _: Direction, data: bytes) -> None:
        assert len(data) <= self.read_size
        self.got += data

    def ended(self, _: Direction) -> None:
        self.said.append("ended")

    def can_send(self, direction: Direction, *, more: bool) -> None:
        assert direction is Direction.TO_CLIENT  # what is sent on the leg of the other direction's bytes
        self.said.append("more" if more else "full")
        if more:
            self.waited = self.look()

    def closed(self, _: Direction) -> None:
        self.said.append("closed")

    def reset(self) -> None:
        self.said.append("reset")


Act = Callable[[Leg, socket.socket, Heard], Awaitable[None]]


def carry(act: Act) -> Heard:
    """Let a leg and its peer act; nothing is left afterwards."""

    async def inside() -> Heard:
        heard, (peer, sock) = Heard(), connected()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        leg = Leg(heard, Direction.TO_SERVER)
        leg.begin(sock)
        try:
            await asyncio.wait_for(act(leg, peer, heard), 10)
        finally:
            leg.reset()
            peer.close()
        return heard

    return asyncio.run(inside())


async def take_all(sock: socket.socket) -> bytes:
    got = bytearray()
    while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 18):
        got += piece
    return bytes(got)


async def settled() -> None:
    await asyncio.sleep(0.05)


def test_reads_only_while_it_may() -> None:
    async def act(leg: Leg, peer: socket.socket, heard: Heard) -> None:
        peer.sendall(b"early")
        await settled()
        assert heard.got == b""
        leg.read_on(True)
        leg.read_on(True)
        await settled()
        assert heard.got == b"early"
        leg.read_on(False)
        peer.sendall(b", late")
        peer.shutdown(socket.SHUT_WR)
        await settled()
        assert (heard.got, heard.said) == (b"early", [])
        leg.read_on(True)
        await settled()

    heard = carry(act)
    assert (heard.got, heard.said) == (b"early, late", ["ended"])


def test_what_a_slow_receiver_leaves_waits_and_the_end_comes_after_it() -> None:
    async def act(leg: Leg, peer: socket.socket, heard: Heard) -> None:
        leg.read_on(True)
        leg.send(MUCH)
        assert heard.said == ["full"]
        assert not leg.is_idle
        leg.send(b"and this")
        leg.send_end()
        assert await take_all(peer) == MUCH + b"and this"
        assert heard.said == ["full", "more"]
        assert leg.is_idle
        peer.shutdown(socket.SHUT_WR)
        await settled()
        leg.send_end()  # both ends are known now
        await settled()

    assert carry(act).said == ["full", "more", "ended", "closed"]


@pytest.mark.parametrize("strict", [False, True])
def test_reads_on_when_little_waits_or_where_that_is_wanted_nothing(strict: bool) -> None:
    async def act(leg: Leg, peer: socket.socket, heard: Heard) -> None:
        if strict:
            leg.send_before_reading()
        heard.look = lambda: len(leg._unsent)
        leg.send(MUCH[:HIGH] * 100)
        taken = 0
        while taken < HIGH * 100:
            taken += len(await asyncio.get_running_loop().sock_recv(peer, 1 << 18))
        assert heard.said == ["full", "more"]
        assert heard.waited <= (0 if strict else LOW)

    carry(act)


def test_closing_in_order_loses_nothing() -> None:
    async def act(leg: Leg, peer: socket.socket, heard: Heard) -> None:
        leg.send(MUCH)
        leg.close()
        leg.send(b"this comes too late")
        assert await take_all(peer) == MUCH
        await settled()

    assert carry(act).said[-1] == "closed"


def test_closing_is_told_later() -> None:
    async def act(leg: Leg, peer: socket.socket, heard: Heard) -> None:
        leg.close()
        assert heard.said == []
        await settled()
        assert await take_all(peer) == b""

    assert carry(act).said == ["closed"]


def test_a_reset_loses_what_waits() -> None:
    async def act(leg: Leg, peer: socket.socket, heard: Heard) -> None:
        leg.send(MUCH)
        leg.reset()
        with pytest.raises(ConnectionResetError):
            await take_all(peer)
        leg.reset()
        leg.read_on(True)
        leg.send(b"nothing")
        leg.send_end()
        leg.close()
        await settled()

    assert carry(act).said == ["full"]


@pytest.mark.parametrize("reads", [True, False])
def test_a_peer_that_resets_is_heard_and_never_amid_sending(reads: bool) -> None:
    async def act(leg: Leg, peer: socket.socket, heard: Heard) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        peer.close()
        if reads:
            leg.read_on(True)
        else:
            leg.send(b"x")
            assert heard.said == []
        await settled()

    assert carry(act).said == ["reset"]


def test_a_peer_that_resets_is_heard_while_bytes_wait_for_it() -> None:
    async def act(leg: Leg, peer: socket.socket, heard: Heard) -> None:
        leg.send(MUCH)
        peer.close()  # with bytes unread: that is a reset
        await settled()

    assert carry(act).said == ["full", "reset"]
