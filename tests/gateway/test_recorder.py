"""The way into the record: in the order in which things happened, and no failure is missed."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.chain import Record
from gateway.audit.recorder import Recorder
from gateway.audit.spool import AuditSpool
from gateway.clock import SystemClock
from gateway.errors import GatewayError
from gateway.events import model


def recorded(
    path: Path, story: Callable[[Recorder], Awaitable[None]], free: int = 1 << 30
) -> list[dict[str, Any]]:
    """Run a story before a recorder, whose disk has so much room; what is on record then."""

    async def run() -> list[dict[str, Any]]:
        spool = AuditSpool(path, lambda _path: free)
        try:
            async with asyncio.timeout(5):
                await story(Recorder(spool, SystemClock(), "lab/gateway", lambda: "rev"))
        finally:
            spool.close()
        return spool.read(0)

    return asyncio.run(run())


def test_what_is_noted_stands_before_what_is_recorded_later(tmp_path: Path) -> None:
    async def story(recorder: Recorder) -> None:
        recorder.note(model.EventsLost("first", 1))
        await recorder.record(model.EventsLost("second", 2))
        await recorder.flush()

    assert [one["unmapped"]["count"] for one in recorded(tmp_path / "a.db", story)] == [1, 2]


def test_a_note_that_failed_before_anybody_waited_is_told(tmp_path: Path) -> None:
    async def story(recorder: Recorder) -> None:
        recorder.note(model.EventsLost("lost", 1))
        with pytest.raises(GatewayError, match="audit"):
            await recorder.flush()
        with pytest.raises(GatewayError, match="audit"):
            await recorder.wait_failed()

    assert recorded(tmp_path / "a.db", story, free=0) == []


def test_a_prune_that_could_not_be_recorded_ends_no_later_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: object, **__: object) -> "asyncio.Future[Record]":
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        future.set_exception(GatewayError("audit-failed", "no space left"))
        return future

    async def story(recorder: Recorder) -> None:
        monkeypatch.setattr(recorder.spool, "hand_over", failed)
        with pytest.raises(GatewayError, match="no space left"):
            await recorder.record(model.EventsLost("lost", 1), reserved=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await recorder.wait_failed()

    assert recorded(tmp_path / "a.db", story) == []
