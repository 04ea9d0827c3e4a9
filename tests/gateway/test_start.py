"""The order of a start: nobody may change anything before what was in force is in force again."""

import asyncio
import os
import pwd
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from gateway.daemon import main
from gateway.daemon.service import Service
from gateway.errors import GatewayError
from vmhost.lab.setup import PROJECT


class FakeService:
    """A service whose start is in the test's hands."""

    def __init__(self, start: Callable[["FakeService"], Awaitable[None]]) -> None:
        self._start = start
        self.serving = asyncio.Event()
        self.netd, self.spool = SimpleNamespace(close=AsyncMock()), Mock()
        self.said: list[str] = []

    def note_rest(self) -> None:
        self.said.append("rest")

    async def run(self) -> None:
        await self._start(self)
        self.said.append("started")
        self.serving.set()
        await asyncio.sleep(0.1)
        raise GatewayError("netd-gone", "the end")


def lived(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[FakeService], Awaitable[None]]
) -> tuple[FakeService, str]:
    """Run the program; return its service and the code with which it ended."""

    async def go() -> tuple[FakeService, str]:
        service: Any = FakeService(start)

        async def serve(_: object) -> Any:
            service.said.append("serves")
            return SimpleNamespace(cleanup=AsyncMock())

        monkeypatch.setattr(main, "_connect", AsyncMock(return_value=service))
        monkeypatch.setattr(main, "_load_api", lambda: serve)
        monkeypatch.setattr(main, "ready", lambda: service.said.append("ready"))
        async with asyncio.timeout(5):
            with pytest.raises(GatewayError) as ended:
                await main.run(Mock())
        return service, ended.value.code

    return asyncio.run(go())


def test_the_control_api_serves_after_the_start_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(service: FakeService) -> None:
        await asyncio.sleep(0.2)
        assert service.said == []

    service, ended = lived(monkeypatch, start)
    assert (service.said, ended) == (["started", "serves", "ready", "rest"], "netd-gone")


def test_a_start_that_fails_ends_the_program_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(_: FakeService) -> None:
        await asyncio.sleep(0.1)
        raise GatewayError("no-policy", "it can't be loaded")

    service, ended = lived(monkeypatch, start)
    assert (service.said, ended) == (["rest"], "no-policy")
    service.netd.close.assert_awaited_once()
    service.spool.close.assert_called_once()


def test_nothing_is_recorded_and_no_policy_loaded_before_there_is_room(tmp_path: Path) -> None:
    async def go() -> None:
        room, service = asyncio.Event(), MagicMock(serving=asyncio.Event(), started=asyncio.Event())

        async def wait_for_room(closed: Callable[[], None]) -> None:
            closed()
            await room.wait()

        service.record.wait_for_room = wait_for_room
        service.record.compare = service.recorder.record = AsyncMock()
        service.changer.start = AsyncMock(side_effect=GatewayError("far-enough", "the policy comes next"))
        service.setup.policy = tmp_path / "policy.toml"
        service.setup.policy.write_text("schema = 1\n")
        starting = asyncio.create_task(Service.run(service))
        await service.serving.wait()
        assert not service.started.is_set()
        service.recorder.record.assert_not_awaited()
        service.changer.start.assert_not_awaited()
        room.set()
        with pytest.raises(GatewayError, match="policy comes next"):
            await starting
        assert not service.started.is_set()

    asyncio.run(go())


WAITING = """
import os, sys
from pathlib import Path
from gateway.daemon.main import await_state
os.setuid(int(sys.argv[2]))
print("waits", flush=True)
await_state(Path(sys.argv[1]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives a directory to another user")
def test_waits_until_the_state_is_open_and_its_own() -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        state = Path(place, "state")
        argv = [sys.executable, "-c", WAITING, state, str(nobody)]
        with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE) as waiting:
            try:
                assert waiting.stdout
                assert waiting.stdout.readline() == b"waits\n"
                state.mkdir(mode=0o700)  # still root's
                time.sleep(0.2)
                assert waiting.poll() is None
                os.chown(state, nobody, -1)
                assert waiting.wait(5) == 0
            finally:
                waiting.kill()


def test_rejects_a_state_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait would have no end: systemd starts the service anew."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(GatewayError) as raised:
        main.await_state(tmp_path)
    assert raised.value.code == "read-only-state"
