"""The kernel carries both directions: nothing is lost, ends and resets arrive, and after a stop nothing moves."""

import asyncio
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from filters.inspection.worker.splicing import Bypass
from tests.filters.inspection.drive import connected

Act = Callable[[socket.socket, socket.socket, Bypass], Awaitable[None]]
MUCH = os.urandom(5 << 20)


def bypassed(act: Act) -> list[str]:
    """Bypass between a client's and a server's connection; return how it ended."""

    async def run() -> list[str]:
        told: list[str] = []
        (client, near), (server, far) = connected(), connected()
        bypass = Bypass(near, far, lambda: told.append("ended"), lambda: told.append("broken"))
        try:
            await asyncio.wait_for(act(client, server, bypass), 20)
            await asyncio.sleep(0.05)
        finally:
            bypass.stop()
            for one in (client, near, server, far):
                one.close()
        return told

    return asyncio.run(run())


async def take_all(sock: socket.socket, pause_s: float = 0.0) -> bytes:
    got = bytearray()
    while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 18):
        got += piece
        await asyncio.sleep(pause_s)
    return bytes(got)


async def send_all(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)
    sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("pause_s", [0.0, 0.002])
def test_carries_both_directions_whole_to_quick_and_slow_receivers(pause_s: float) -> None:
    async def act(client: socket.socket, server: socket.socket, _: Bypass) -> None:
        got = await asyncio.gather(
            take_all(client, pause_s), take_all(server, pause_s), send_all(client, MUCH), send_all(server, MUCH[::-1])
        )  # fmt: skip
        assert hashlib.sha256(got[0]).digest() == hashlib.sha256(MUCH[::-1]).digest()
        assert hashlib.sha256(got[1]).digest() == hashlib.sha256(MUCH).digest()

    assert bypassed(act) == ["ended"]


def test_one_direction_goes_on_after_the_other_has_ended() -> None:
    async def act(client: socket.socket, server: socket.socket, _: Bypass) -> None:
        await send_all(client, b"question")
        assert await take_all(server) == b"question"
        await send_all(server, MUCH)
        assert await take_all(client) == MUCH

    assert bypassed(act) == ["ended"]


@pytest.mark.parametrize("who", [0, 1])
def test_a_reset_breaks_it(who: int) -> None:
    async def act(client: socket.socket, server: socket.socket, _: Bypass) -> None:
        sock = (client, server)[who]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()

    assert bypassed(act) == ["broken"]


def test_a_receiver_that_is_gone_breaks_it_amid_the_stream() -> None:
    async def act(client: socket.socket, server: socket.socket, _: Bypass) -> None:
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client, MUCH))
        await asyncio.get_running_loop().sock_recv(server, 100)
        server.close()
        await asyncio.wait([sending], timeout=0.3)
        sending.cancel()

    assert bypassed(act) == ["broken"]


def test_nothing_moves_after_a_stop() -> None:
    async def act(client: socket.socket, server: socket.socket, bypass: Bypass) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"before")
        assert await loop.sock_recv(server, 100) == b"before"
        bypass.stop()
        await loop.sock_sendall(client, b"after")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(server, 100), 0.2)

    assert bypassed(act) == []


@pytest.mark.parametrize("good", [0, 1])
def test_rejects_half_a_bypass_when_descriptors_run_out(good: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, made = os.pipe2, []

    def scarce(flags: int) -> tuple[int, int]:
        made.append(flags)
        if len(made) > good:
            raise OSError(24, "too many open files")
        return plain(flags)

    async def run() -> None:
        (client, near), (server, far) = connected(), connected()
        with monkeypatch.context() as patch, pytest.raises(OSError, match="too many"):
            patch.setattr(os, "pipe2", scarce)
            Bypass(near, far, lambda: None, lambda: None)
        client.sendall(b"nothing may carry this")
        await asyncio.sleep(0.1)
        with pytest.raises(BlockingIOError):
            server.recv(100)
        for one in (client, near, server, far):
            one.close()

    asyncio.run(run())
