"""The two legs of a connection: what comes first is not lost, what is given up is no finding."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from filters.inspection.finding import Finding
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import Job
from filters.inspection.worker.flow import Ends, Flow
from filters.inspection.worker.handing import Ask
from filters.inspection.worker.memory import Memory
from filters.netd.tcp_socket import RESETS
from filters.netd.verdicts import APART, HANDED, HUSH, JOIN, LOST, UNDER_WAY
from tests.filters.inspection.drive import EICAR, GET, SPEC, answer, connected, toolbox

Act = Callable[[socket.socket, socket.socket], Awaitable[None]]


async def _carried(
    before: Callable[[socket.socket], None],
    act: Act,
    *,
    spec: InspectionSpec = SPEC,
    made: Callable[[Flow], None] = lambda _: None,
    ask: Ask | None = None,
) -> tuple[Flow, list[str]]:
    """Carry between a client and a server; `before` acts as the server before anybody reads what it says."""
    found = []
    judge = toolbox().judge(spec)

    async def judged(job: Job) -> list[Finding]:
        return judge.judge(job.data, job.name, job.media_type, whole=job.whole, as_sent=job.as_sent)

    flow = Flow(
        Ends(("10.0.0.1", 1), ("10.0.0.2", 2)), "rule", judge, judged, lambda _, one: found.append(one.check), Memory(), ask
    )  # fmt: skip
    made(flow)
    pairs = [connected() for _ in range(2)]
    (client, near), (server, far) = pairs
    before(server)
    flow.begin(near, far)
    try:
        await asyncio.wait_for(act(client, server), 10)
    finally:
        flow.reset()
        client.close()
        server.close()
        await asyncio.sleep(0)
    return flow, found


async def _all(sock: socket.socket) -> bytes:
    got = b""
    while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
        got += piece
    return got


def test_a_server_that_speaks_at_once_is_heard() -> None:
    greeting = b"hello, this is no protocol that anybody knows\n"

    async def act(client: socket.socket, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(client, 100) == greeting
        await loop.sock_sendall(client, b"and hello")
        assert await loop.sock_recv(server, 100) == b"and hello"

    _, found = asyncio.run(_carried(lambda server: server.sendall(greeting) or None, act))
    assert found == []


@pytest.mark.parametrize("said", [b"", b"bye\n"])
def test_a_server_that_hangs_up_at_once_is_seen_to(said: bytes) -> None:
    def before(server: socket.socket) -> None:
        server.sendall(said)
        server.shutdown(socket.SHUT_WR)

    async def act(client: socket.socket, server: socket.socket) -> None:
        client.shutdown(socket.SHUT_WR)
        assert await _all(client) == said

    assert asyncio.run(_carried(before, act))[1] == []


def test_malware_said_at_once_costs_the_client_its_connection() -> None:
    async def act(client: socket.socket, server: socket.socket) -> None:
        with pytest.raises(ConnectionResetError):
            await _all(client)

    flow, found = asyncio.run(_carried(lambda server: server.sendall(EICAR), act))
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


DEPTH = 64 << 10
DEEP = replace(SPEC, offload_after=DEPTH)


async def _through(client: socket.socket, server: socket.socket, data: bytes) -> None:
    """Send to the server, and check that just this arrives."""
    loop, got = asyncio.get_running_loop(), bytearray()
    sending = asyncio.create_task(loop.sock_sendall(client, data))
    while len(got) < len(data):
        got += await loop.sock_recv(server, 1 << 18)
    await sending
    assert bytes(got) == data


@pytest.mark.parametrize("spec", [SPEC, DEEP])
def test_a_secret_is_stopped_up_to_the_depth_and_unseen_behind_it(spec: InspectionSpec) -> None:
    noise = b"\0" + os.urandom(DEPTH)

    async def act(client: socket.socket, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await _through(client, server, noise)
        await loop.sock_sendall(client, EICAR + b"\n")
        if spec.offload_after:
            assert await loop.sock_recv(server, 100) == EICAR + b"\n"
            server.shutdown(socket.SHUT_WR)
            client.shutdown(socket.SHUT_WR)
            assert await _all(client) == await _all(server) == b""
        else:
            with pytest.raises(ConnectionResetError):
                await _all(server)

    flow, found = asyncio.run(_carried(lambda _: None, act, spec=spec))
    assert found == ([] if spec.offload_after else ["malware.eicar"])
    assert flow.done.is_set()


def _netd(asked: list[bytes], *answers: bytes) -> Ask:
    """What netd answers, one after the other, and the last from then on."""

    async def ask(verb: bytes, near: socket.socket, far: socket.socket) -> bytes:
        asked.append(verb)
        return answers[min(len(asked), len(answers)) - 1]

    return ask


@pytest.mark.parametrize(
    ("answers", "verbs"),
    [
        ((APART + b"no rule",), [HUSH]),
        ((HANDED, APART + b"the sides count windows otherwise"), [HUSH, JOIN]),
        ((HANDED, UNDER_WAY), [HUSH, JOIN]),  # and once more later
    ],
)
def test_what_netd_does_not_take_is_carried_on(answers: tuple[bytes, ...], verbs: list[bytes]) -> None:
    asked: list[bytes] = []

    async def act(client: socket.socket, server: socket.socket) -> None:
        for _ in range(3):
            await _through(client, server, b"\0" + os.urandom(DEPTH))
            await asyncio.sleep(0.1)

    _, found = asyncio.run(_carried(lambda _: None, act, spec=DEEP, ask=_netd(asked, *answers)))
    assert (asked, found) == (verbs, [])


@pytest.mark.parametrize(("last", "told"), [(HANDED, []), (LOST, ["handover"])])
def test_what_netd_took_is_left_and_what_it_lost_is_told(last: bytes, told: list[str]) -> None:
    async def act(client: socket.socket, server: socket.socket) -> None:
        await _through(client, server, b"\0" + os.urandom(DEPTH))
        with pytest.raises(ConnectionResetError):  # nobody silences these sockets here
            await _all(client)

    flow, found = asyncio.run(_carried(lambda _: None, act, spec=DEEP, ask=_netd([], HANDED, last)))
    assert flow.done.is_set()
    assert found == told


def test_a_connection_that_ends_while_netd_is_asked_ends_in_order() -> None:
    async def act(client: socket.socket, server: socket.socket) -> None:
        await _through(client, server, b"\0" + os.urandom(DEPTH))
        client.shutdown(socket.SHUT_WR)
        server.shutdown(socket.SHUT_WR)
        assert await _all(client) == await _all(server) == b""

    async def ask(*_: object) -> bytes:
        await asyncio.sleep(0.3)
        return APART + b"a side has ended"

    flow, found = asyncio.run(_carried(lambda _: None, act, spec=DEEP, ask=ask))
    assert (flow.done.is_set(), found) == (True, [])


def test_malware_before_the_depth_is_stopped_with_offloading_too() -> None:
    async def act(client: socket.socket, server: socket.socket) -> None:
        await _through(client, server, b"\0" + os.urandom(DEPTH // 2))
        await asyncio.get_running_loop().sock_sendall(client, EICAR + b"\n")
        with pytest.raises(ConnectionResetError):
            await _all(server)

    assert asyncio.run(_carried(lambda _: None, act, spec=DEEP))[1] == ["malware.eicar"]


def test_an_object_amid_which_the_depth_lies_is_judged_up_to_there() -> None:
    body = b"MZ" + os.urandom(DEPTH * 2)

    async def act(client: socket.socket, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, GET)
        await loop.sock_recv(server, 1000)
        await loop.sock_sendall(server, answer(body)[:-100])
        with pytest.raises(ConnectionResetError):
            await _all(client)

    denied = replace(DEEP, deny_types=frozenset({"executable"}))
    assert asyncio.run(_carried(lambda _: None, act, spec=denied))[1]


def test_what_was_kept_of_an_object_is_free_once_the_kernel_takes_over() -> None:
    flows: list[Flow] = []

    async def act(client: socket.socket, server: socket.socket) -> None:
        loop, got = asyncio.get_running_loop(), 0
        await loop.sock_sendall(client, GET)
        await loop.sock_recv(server, 1000)
        sent = answer(b"\x01" + os.urandom(DEPTH * 2))[:-100]
        await loop.sock_sendall(server, sent)
        while got < len(sent):
            got += len(await loop.sock_recv(client, 1 << 18))
        assert flows[0]._bypass
        assert flows[0]._counted == {"held": 0, "kept": 0}

    asyncio.run(_carried(lambda _: None, act, spec=DEEP, made=flows.append))


@pytest.mark.parametrize("slow_s", [0.0, 0.001])
def test_no_byte_is_lost_where_the_kernel_takes_over(slow_s: float) -> None:
    data = os.urandom(4 << 20)

    async def one_way(out: socket.socket, into: socket.socket) -> bytes:
        loop, got = asyncio.get_running_loop(), bytearray()

        async def send() -> None:
            await loop.sock_sendall(out, b"\0" + data)
            out.shutdown(socket.SHUT_WR)

        sending = asyncio.create_task(send())
        while piece := await loop.sock_recv(into, 50_000):
            got += piece
            await asyncio.sleep(slow_s)
        await sending
        return bytes(got)

    async def act(client: socket.socket, server: socket.socket) -> None:
        assert set(await asyncio.gather(one_way(client, server), one_way(server, client))) == {b"\0" + data}

    flow, found = asyncio.run(_carried(lambda _: None, act, spec=DEEP))
    assert found == []
    assert flow._bypass is not None


def test_a_cut_ends_what_the_kernel_carries() -> None:
    flows: list[Flow] = []

    async def act(client: socket.socket, server: socket.socket) -> None:
        await _through(client, server, b"\0" + os.urandom(2 * DEPTH))
        flows[0].reset()
        for one in (client, server):
            with pytest.raises(ConnectionResetError):
                await _all(one)

    asyncio.run(_carried(lambda _: None, act, spec=DEEP, made=flows.append))


def _hangs_up(sock: socket.socket) -> None:
    """End with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
    sock.close()


def test_a_reset_stays_one_when_bytes_for_its_end_come_first() -> None:
    """Sending them uses the socket's error up; what is read after that looks like an orderly end."""

    async def act(client: socket.socket, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"\0question")
        await loop.sock_recv(server, 100)
        await loop.sock_sendall(server, b"\0part of an answer")
        await asyncio.sleep(0.05)
        client.send(b"more")
        _hangs_up(server)
        with pytest.raises(ConnectionResetError):
            await _all(client)

    for _ in range(5):
        assert asyncio.run(_carried(lambda _: None, act))[1] == []


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_receiver_that_resets_as_the_depth_is_reached_costs_nothing_but_its_connection() -> None:
    flows: list[Flow] = []

    async def act(client: socket.socket, server: socket.socket) -> None:
        client.send(b"\0" + os.urandom(DEPTH))
        _hangs_up(server)
        with pytest.raises(ConnectionResetError):
            await _all(client)
        await asyncio.wait_for(flows[0].done.wait(), 1)

    before = _descriptors()
    asyncio.run(_carried(lambda _: None, act, spec=DEEP, made=flows.append))
    assert _descriptors() == before


def test_what_breaks_before_bytes_are_looked_at_ends_the_connection() -> None:
    def beat() -> None:
        raise MemoryError

    def made(flow: Flow) -> None:
        flow._beat = beat

    async def act(client: socket.socket, server: socket.socket) -> None:
        client.send(b"\0lost")
        with pytest.raises(ConnectionResetError):
            await _all(server)

    flow, found = asyncio.run(_carried(lambda _: None, act, made=made))
    assert (flow.done.is_set(), found) == (True, ["inspector"])
