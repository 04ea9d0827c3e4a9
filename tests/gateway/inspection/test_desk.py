"""Dialogues with inspectors: when another policy counts as known to them."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import gateway.inspection.desk as module
from filters.inspection.assignments import Assignment
from filters.inspection.spec import InspectionSpec
from filters.netd.protocol import FrameReader, encode_frame
from gateway.inspection.desk import InspectorDesk

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

    def took(self, number: int) -> None:
        self.writer.write(encode_frame({"taken": number}))


def with_inspectors(
    tmp_path: Path, count: int, talk: Callable[[InspectorDesk, list[Inspector]], Awaitable[None]]
) -> None:
    async def run() -> None:
        desk = InspectorDesk(os.geteuid(), lambda _: None)
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
