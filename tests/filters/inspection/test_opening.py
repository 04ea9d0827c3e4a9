"""The far leg comes first: what the server answers is what the client gets."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from scapy.layers.inet import IP, TCP

from filters.inspection.worker import opening
from filters.inspection.worker.opening import Opening
from filters.inspection.worker.sockets import SocketsLost
from filters.netd.verdicts import PASS, REASONS, REFUSED
from filters.reason import DropReason

CLIENT, SERVER = ("10.0.0.2", 40000), ("10.0.0.3", 80)
SYN = bytes(IP(src=CLIENT[0], dst=SERVER[0]) / TCP(sport=CLIENT[1], dport=SERVER[1], flags="S"))


class Servers:
    """Counts connections; `answers` says how the next ones come out."""

    def __init__(self, error: OSError | None = None, delay_s: float = 0.0) -> None:
        self.error, self.delay_s, self.made = error, delay_s, []  # type: ignore[var-annotated]

    async def connect(
        self, _client: opening.Endpoint, _server: opening.Endpoint, shift: int | None
    ) -> socket.socket:
        self.shift = shift
        self.made.append(socket.socket())
        await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        return self.made[-1]


def run(servers: Servers, story: Callable[[Opening], Awaitable[object]]) -> object:
    async def inside() -> object:
        one = Opening(servers.connect, lambda _client, server: server[1] != 81)
        try:
            return await story(one)
        finally:
            one.close()

    return asyncio.run(inside())


async def answer(one: Opening, packet: bytes) -> int:
    """Wait for the verdict on a packet."""
    said: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    one.ask(packet, said.set_result)
    return await said


def name(number: object) -> str:
    assert isinstance(number, int)
    return {PASS: "pass", REFUSED: "refused"}.get(number) or REASONS[number - 1].value


@pytest.mark.parametrize(
    ("servers", "verdict"),
    [
        (Servers(), "pass"),
        (Servers(ConnectionRefusedError()), "refused"),
        (Servers(OSError(113, "no route")), DropReason.HOLD_TIMEOUT),
        (Servers(delay_s=5), DropReason.HOLD_TIMEOUT),
    ],
)
def test_the_verdict_is_the_servers_answer(servers: Servers, verdict: str) -> None:
    assert name(run(servers, lambda one: answer(one, SYN))) == verdict


def test_what_nobody_said_how_to_inspect_opens_nothing() -> None:
    servers, other = Servers(), bytes(IP(src=CLIENT[0], dst=SERVER[0]) / TCP(sport=1, dport=81, flags="S"))
    assert name(run(servers, lambda one: answer(one, other))) == DropReason.INSPECTOR_DOWN
    assert not servers.made


def test_a_repeated_packet_opens_nothing_anew() -> None:
    servers = Servers(delay_s=0.5)

    async def story(one: Opening) -> list[str]:
        said = [await answer(one, SYN), await answer(one, SYN)]
        leg = await one.take(CLIENT, SERVER)
        said.append(await answer(one, SYN))
        leg.close()
        return [name(number) for number in said]

    assert run(servers, story) == [DropReason.HOLD_TIMEOUT, "pass", "pass"]
    assert len(servers.made) == 1


def test_after_a_connection_is_over_its_ports_open_a_new_one() -> None:
    servers = Servers()

    async def story(one: Opening) -> None:
        for _ in range(2):
            assert await answer(one, SYN) == PASS
            (await one.take(CLIENT, SERVER)).close()
            one.over(CLIENT, SERVER)

    run(servers, story)
    assert len(servers.made) == 2


def test_a_leg_that_nobody_takes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "TAKEN_WITHIN_S", 0.05)
    servers = Servers()

    async def story(one: Opening) -> None:
        await answer(one, SYN)
        await asyncio.sleep(0.2)

    run(servers, story)
    assert servers.made[0].fileno() == -1


def test_too_many_waiting_legs_are_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MOST", 0)
    assert name(run(Servers(), lambda one: answer(one, SYN))) == DropReason.RESOURCE_LIMIT


def test_one_guests_waiting_legs_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MOST", 8)
    monkeypatch.setattr(opening, "ANSWER_WITHIN_S", 0.05)

    def syn(source: str, server: str, port: int) -> bytes:
        return bytes(IP(src=source, dst=server) / TCP(sport=port, dport=80, flags="S"))

    async def story(one: Opening) -> list[str]:
        greedy = [await answer(one, syn("10.0.0.2", "10.0.0.3", port)) for port in range(7)]
        other = await answer(one, syn("10.0.0.4", "10.0.0.5", 1))
        return [name(number) for number in (*greedy, other)]

    silent, full = DropReason.HOLD_TIMEOUT, DropReason.RESOURCE_LIMIT
    assert run(Servers(delay_s=5), story) == [silent] * 6 + [full, silent]


@pytest.mark.parametrize("packet", [b"", SYN[:25], b"\x60" + SYN[1:]])
def test_refuses_what_is_no_packet(packet: bytes) -> None:
    assert name(run(Servers(), lambda one: answer(one, packet))) == DropReason.PARSE_ERROR


def test_a_refusal_that_comes_late_is_what_the_repeated_packet_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "ANSWER_WITHIN_S", 0.05)
    servers = Servers(ConnectionRefusedError(), delay_s=0.1)

    async def story(one: Opening) -> list[str]:
        said = [await answer(one, SYN)]
        await asyncio.sleep(0.15)
        said.append(await answer(one, SYN))
        assert len(servers.made) == 1
        said.append(await answer(one, SYN))  # heard once: the server is asked anew
        return [name(number) for number in said]

    assert run(servers, story) == [DropReason.HOLD_TIMEOUT, "refused", DropReason.HOLD_TIMEOUT]
    assert len(servers.made) == 2


def test_a_leg_for_which_there_is_no_socket_takes_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MOST", 2)
    monkeypatch.setattr(opening, "TAKEN_WITHIN_S", 0.01)
    servers = Servers(SocketsLost("away", "netd gives no sockets"))  # type: ignore[arg-type]

    async def story(one: Opening) -> list[str]:
        said = []
        for _ in range(4):
            said.append(name(await answer(one, SYN)))
            await asyncio.sleep(0.05)
        with pytest.raises(ConnectionAbortedError, match="no sockets"):
            await one.take(CLIENT, SERVER)
        return said

    assert run(servers, story) == [DropReason.HOLD_TIMEOUT] * 4
