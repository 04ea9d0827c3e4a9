"""The monitor's socket, which anybody may open: nobody can have all of it."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from vmhost.errors import HostError
from vmhost.monitor import server
from vmhost.monitor.protocol import LENGTH, encode
from vmhost.monitor.server import LOGGED, LONGEST_REASON, MOST, MOST_OF_ONE, MonitorServer
from vmhost.names import AGENT_UID, GATEWAY_UID


class Monitor:
    """Has nothing but a status, and a guest that restarts at once."""

    def machine(self, name: str) -> None:
        if name != "web":
            raise HostError("unknown-peer", name)

    def status(self) -> dict[str, object]:
        return {"peers": {}}

    async def restart_peer(self, _name: str) -> None:
        return None


def play(story: Callable[[MonitorServer, Path], Awaitable[None]], uid: int) -> None:
    """Run a story against a server whose callers all have this uid."""

    async def run() -> None:
        monitor: Any = Monitor()
        one = MonitorServer(monitor)
        with tempfile.TemporaryDirectory(prefix="qg-t-") as directory:
            path = Path(directory) / "socket"
            serving = asyncio.create_task(one.serve(path))
            while not path.exists():
                await asyncio.sleep(0.01)
            try:
                await story(one, path)
            finally:
                serving.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "uid_of", lambda _: uid)
        asyncio.run(run())


async def answered(path: Path) -> bool:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(encode({"op": "status"}))
        return bool(await asyncio.wait_for(reader.read(LENGTH.size), 5))
    except ConnectionError:
        return False
    finally:
        writer.close()


async def crowd(path: Path) -> list[asyncio.StreamWriter]:
    found = [(await asyncio.open_unix_connection(path))[1] for _ in range(MOST_OF_ONE)]
    await asyncio.sleep(0.1)
    return found


def test_rejects_a_uids_connections_above_its_share_until_one_is_over() -> None:
    async def story(_: MonitorServer, path: Path) -> None:
        idle = await crowd(path)
        assert not await answered(path)
        idle.pop().close()
        await asyncio.sleep(0.1)
        assert await answered(path)
        for one in idle:
            one.close()

    play(story, 4242)


def test_strangers_leave_gateway_and_agents_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(_: MonitorServer, path: Path) -> None:
        held = []
        for number in range(MOST // MOST_OF_ONE):
            monkeypatch.setattr(server, "uid_of", lambda _, uid=4242 + number: uid)
            held += await crowd(path)
        monkeypatch.setattr(server, "uid_of", lambda _: 4242 + MOST // MOST_OF_ONE)
        assert not await answered(path)
        for uid in (0, GATEWAY_UID, AGENT_UID):
            monkeypatch.setattr(server, "uid_of", lambda _, uid=uid: uid)
            assert await answered(path)
        for one in held:
            one.close()

    play(story, 4242)


def test_root_is_always_heard() -> None:
    async def story(_: MonitorServer, path: Path) -> None:
        idle = await crowd(path)
        assert await answered(path)
        for one in idle:
            one.close()

    play(story, 0)


def test_the_gateways_vm_has_a_share_too() -> None:
    async def story(monitor: MonitorServer, _: Path) -> None:
        opened = [await monitor.for_gateway() for _ in range(MOST_OF_ONE)]
        await asyncio.sleep(0.1)
        with pytest.raises(OSError, match="as many connections as may be"):
            await monitor.for_gateway()
        for _, writer in opened:
            writer.close()
        await asyncio.sleep(0.1)
        (await monitor.for_gateway())[1].close()

    play(story, os.getuid())


def test_the_gateways_vm_can_not_have_more_by_asking_all_at_once() -> None:
    async def story(monitor: MonitorServer, _: Path) -> None:
        asked = await asyncio.gather(
            *(monitor.for_gateway() for _ in range(2 * MOST_OF_ONE)), return_exceptions=True
        )
        opened = [one for one in asked if not isinstance(one, BaseException)]
        assert len(opened) == MOST_OF_ONE
        for _, writer in opened:
            writer.close()

    play(story, os.getuid())


def test_who_takes_no_answer_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.2)
    monkeypatch.setattr(Monitor, "status", lambda _: {"peers": "x" * (4 << 20)})

    async def story(one: MonitorServer, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(path))
            deaf.sendall(encode({"op": "status"}))
            await asyncio.sleep(0.1)
            assert one._open.total() == 1
            async with asyncio.timeout(5):
                while one._open.total():
                    await asyncio.sleep(0.05)

    play(story, 4242)


def test_who_asks_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(_: MonitorServer, path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()

    monkeypatch.setattr(server, "IDLE_S", 0.2)
    play(story, 4242)


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"reason": "pcr-mismatch\n\x1b[2J"}, "pcr-mismatch\\n\\x1b[2J"), ({}, "no reason was given")],
)
def test_the_log_says_why_a_guest_is_restarted(
    capsys: pytest.CaptureFixture[str], asked: dict[str, str], said: str
) -> None:
    async def story(_: MonitorServer, path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(encode({"op": "restart_peer", "peer": "web", **asked}))
        assert await asyncio.wait_for(reader.read(LENGTH.size), 5)
        writer.close()

    play(story, 0)
    assert f"monitor: web is to be restarted: {said}\n" in capsys.readouterr().out


@pytest.mark.parametrize(("peer", "lines"), [("web", LOGGED), ("x" * 1000, 0)])
def test_rejects_filling_the_log_with_wishes_for_restarts(
    capsys: pytest.CaptureFixture[str], peer: str, lines: int
) -> None:
    async def story(_: MonitorServer, path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        for _ in range(100):
            writer.write(encode({"op": "restart_peer", "peer": peer, "reason": "y" * 1000}))
            (length,) = LENGTH.unpack(await asyncio.wait_for(reader.readexactly(LENGTH.size), 5))
            await reader.readexactly(length)
        writer.close()

    play(story, 0)
    line = f"monitor: {peer} is to be restarted: {'y' * LONGEST_REASON}\n"
    assert capsys.readouterr().out == line * lines
