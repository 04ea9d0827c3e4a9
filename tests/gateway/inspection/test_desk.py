"""Dialogues with inspectors: when another policy counts as known to them, and what becomes of one that is silent."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import gateway.inspection.desk as module
from filters.inspection.assignments import Assignment
from filters.inspection.spec import InspectionSpec
from filters.netd.protocol import FrameReader, encode_frame
from gateway.errors import GatewayError
from gateway.events.model import InspectorSilent
from gateway.inspection import heartbeats
from gateway.inspection.desk import InspectorDesk, Recorded

ONE = Assignment(6, "10.0.0.1", "10.0.0.2", 80, 80, "r", InspectionSpec(frozenset({"secrets"})))


class Inspector:
    """The other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer, self._frames = reader, writer, FrameReader()

    async def told(self) -> int:
        """Return the number of the next assignments."""
        while True:
            for message in self._frames.feed(await self._reader.read(1 << 16)):
                return int(message["number"])

    async def hung_up(self) -> None:
        """Return once the desk hung up."""
        try:
            while await self._reader.read(1 << 16):
                pass
        except ConnectionResetError:
            pass

    def say(self, what: dict[str, object]) -> None:
        self.writer.write(encode_frame(what))

    def took(self, number: int) -> None:
        self.writer.write(encode_frame({"taken": number}))


async def nobody_is_ended(_pid: int) -> None:
    raise AssertionError("nobody was to be ended")


def with_inspectors(
    tmp_path: Path,
    count: int,
    talk: Callable[[InspectorDesk, list[Inspector]], Awaitable[None]],
    *,
    record: Callable[[Recorded], None] = lambda _: None,
    end: Callable[[int], Awaitable[None]] = nobody_is_ended,
) -> None:
    async def run() -> None:
        desk = InspectorDesk(os.geteuid(), record, time.monotonic, end)
        served = asyncio.create_task(desk.serve(tmp_path / "desk"))
        while not (tmp_path / "desk").exists():
            await asyncio.sleep(0.01)
        there = [Inspector(*await asyncio.open_unix_connection(str(tmp_path / "desk"))) for _ in range(count)]
        for one in there:
            assert await one.told() == 0
        await talk(desk, there)
        served.cancel()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_assignments_count_as_told_once_every_inspector_took_them(tmp_path: Path) -> None:
    async def talk(desk: InspectorDesk, there: list[Inspector]) -> None:
        assigned = asyncio.create_task(desk.assign([ONE]))
        for one in there:
            assert await one.told() == 1
            assert not assigned.done()
            one.took(0)  # an answer to what it was told before
            await asyncio.sleep(0.05)
            assert not assigned.done()
            one.took(1)
        await assigned

    with_inspectors(tmp_path, 2, talk)


def test_one_that_leaves_is_waited_for_no_longer(tmp_path: Path) -> None:
    async def talk(desk: InspectorDesk, there: list[Inspector]) -> None:
        assigned = asyncio.create_task(desk.assign([ONE]))
        await there[0].told()
        there[0].writer.close()
        await asyncio.wait_for(assigned, module.ANSWER_WITHIN_S / 2)

    with_inspectors(tmp_path, 1, talk)


def test_one_that_is_silent_holds_nobody_up_for_long(tmp_path: Path) -> None:
    async def talk(desk: InspectorDesk, there: list[Inspector]) -> None:
        await asyncio.wait_for(desk.assign([ONE]), module.ANSWER_WITHIN_S * 5)

    with_inspectors(tmp_path, 1, talk)


def test_without_inspectors_nothing_is_waited_for(tmp_path: Path) -> None:
    async def talk(desk: InspectorDesk, there: list[Inspector]) -> None:
        await asyncio.wait_for(desk.assign([ONE]), module.ANSWER_WITHIN_S / 2)

    with_inspectors(tmp_path, 0, talk)


def test_another_answer_than_a_number_dismisses_the_inspector(tmp_path: Path) -> None:
    async def talk(desk: InspectorDesk, there: list[Inspector]) -> None:
        assigned = asyncio.create_task(desk.assign([ONE]))
        await there[0].told()
        there[0].writer.write(encode_frame({"taken": "all"}))
        await asyncio.wait_for(assigned, module.ANSWER_WITHIN_S / 2)

    with_inspectors(tmp_path, 1, talk)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed within half a second."""
    monkeypatch.setattr(heartbeats, "SILENT_S", 0.4)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.05)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("answer", [None, GatewayError("away", "the monitor is away")])
def test_one_that_is_silent_is_recorded_hung_up_on_and_ended_and_the_other_stays(
    tmp_path: Path, answer: GatewayError | None
) -> None:
    recorded: list[Recorded] = []
    ended: list[int] = []

    async def end(pid: int) -> None:
        ended.append(pid)
        if answer:
            raise answer

    async def talk(desk: InspectorDesk, there: list[Inspector]) -> None:
        watching = asyncio.create_task(desk.watch())
        for one in there:
            one.say({"alive": True})
        gone = asyncio.create_task(there[0].hung_up())
        while not gone.done():
            there[1].say({"alive": True})
            await asyncio.sleep(0.05)
        there[1].say({"material": {"files": [], "bad": [], "notes": []}})
        for _ in range(20):
            there[1].say({"alive": True})
            await asyncio.sleep(0.05)
        assert desk.ready == 1
        assert not watching.done()

    with_inspectors(tmp_path, 2, talk, record=recorded.append, end=end)
    (event,) = recorded
    assert isinstance(event, InspectorSilent)
    assert (event.pid, event.reason, ended) == (os.getpid(), "inspector-down", [os.getpid()])


@pytest.mark.usefixtures("quick")
def test_one_that_has_not_said_its_first_word_is_waited_for(tmp_path: Path) -> None:
    async def talk(desk: InspectorDesk, there: list[Inspector]) -> None:
        watching = asyncio.create_task(desk.watch())
        await asyncio.sleep(1)
        there[0].took(0)
        assigned = asyncio.create_task(desk.assign([ONE]))
        assert await there[0].told() == 1
        there[0].took(1)
        await assigned
        assert not watching.done()

    with_inspectors(tmp_path, 1, talk)
