"""The two legs of a connection: what comes before both are there is not lost, what is given up is no finding."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from filters.inspection.finding import Finding
from filters.inspection.stream import Job
from filters.inspection.worker.flow import Ends, Flow
from filters.inspection.worker.memory import Memory
from tests.filters.inspection.drive import EICAR, GET, SPEC, answer, toolbox

Act = Callable[[socket.socket, socket.socket], Awaitable[None]]


async def _carried(
    before: Callable[[socket.socket], None], act: Act, *, pause_s: float = 0.0
) -> tuple[Flow, list[str]]:
    """Connect far leg and near leg as the inspector does; `before` acts as the server before the near leg is there."""
    loop, found = asyncio.get_running_loop(), []
    judge = toolbox().judge(SPEC)

    async def judged(job: Job) -> list[Finding]:
        return judge.judge(job.data, job.name, job.media_type, whole=job.whole)

    flow = Flow(
        Ends(("10.0.0.1", 1), ("10.0.0.2", 2)), "rule", judge, judged, lambda _, one: found.append(one.check), Memory()
    )  # fmt: skip
    pairs = [_connected() for _ in range(2)]
    (client, near), (server, far) = pairs
    before(server)
    await loop.connect_accepted_socket(lambda: flow.legs[1], far)
    await asyncio.sleep(pause_s)
    await loop.connect_accepted_socket(lambda: flow.legs[0], near)
    try:
        await asyncio.wait_for(act(client, server), 10)
    finally:
        flow.reset()
        client.close()
        server.close()
        await asyncio.sleep(0)
    return flow, found


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


async def _all(sock: socket.socket) -> bytes:
    got = b""
    while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
        got += piece
    return got


@pytest.mark.parametrize("pause_s", [0.0, 0.4])
def test_a_server_that_speaks_at_once_is_heard(pause_s: float) -> None:
    greeting = b"hello, this is no protocol that anybody knows\n"

    async def act(client: socket.socket, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(client, 100) == greeting
        await loop.sock_sendall(client, b"and hello")
        assert await loop.sock_recv(server, 100) == b"and hello"

    _, found = asyncio.run(_carried(lambda server: server.sendall(greeting) or None, act, pause_s=pause_s))
    assert found == []


@pytest.mark.parametrize("said", [b"", b"bye\n"])
def test_a_server_that_hangs_up_at_once_is_seen_to(said: bytes) -> None:
    def before(server: socket.socket) -> None:
        server.sendall(said)
        server.shutdown(socket.SHUT_WR)

    async def act(client: socket.socket, server: socket.socket) -> None:
        client.shutdown(socket.SHUT_WR)
        assert await _all(client) == said

    assert asyncio.run(_carried(before, act, pause_s=0.4))[1] == []


def test_malware_said_at_once_costs_the_client_its_connection() -> None:
    async def act(client: socket.socket, server: socket.socket) -> None:
        with pytest.raises(ConnectionResetError):
            await _all(client)

    flow, found = asyncio.run(_carried(lambda server: server.sendall(EICAR), act, pause_s=0.4))
    assert flow.done.is_set()
    assert found == ["malware.eicar"]


@pytest.mark.parametrize("given_up", [True, False])
def test_an_answer_that_ends_early_is_a_finding_unless_the_client_hung_up_first(given_up: bool) -> None:
    async def act(client: socket.socket, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, GET)
        await loop.sock_recv(server, 100)
        await loop.sock_sendall(server, answer(b"x" * 1000)[:-500])
        await loop.sock_recv(client, 10)
        if given_up:
            client.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(server, 100) == b""
        server.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            await _all(client)

    _, found = asyncio.run(_carried(lambda _: None, act))
    assert found == ([] if given_up else ["http-body-incomplete"])
