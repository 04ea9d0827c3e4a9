"""What an inspector hears of quotegated before it serves anybody."""

import asyncio
from pathlib import Path

import pytest

from filters.inspection.assignments import Assignment
from filters.inspection.spec import InspectionSpec
from filters.inspection.worker.control import Control, ControlLost
from filters.netd.protocol import FrameReader, encode_frame

SPECS = frozenset({InspectionSpec(), InspectionSpec(frozenset({"secrets"}))})
LISTED = [
    Assignment(6, "10.0.0.1", "10.0.0.2", port, port, "r", spec).to_json() for port, spec in enumerate(SPECS)
]


def learned(path: Path, *pieces: bytes) -> tuple[frozenset[InspectionSpec], list[object]]:
    """Let quotegated say something in pieces; return what the inspector knows then, and what it answered."""

    async def story() -> tuple[frozenset[InspectionSpec], list[object]]:
        answers: list[object] = []

        async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            frames = FrameReader()
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.02)
            writer.write_eof()
            while data := await reader.read(1 << 16):
                answers.extend(frames.feed(data))
            writer.close()

        async with await asyncio.start_unix_server(attend, path):
            control = await Control.connect(path)
            await control.learn()
            control._writer.close()
            await asyncio.sleep(0.1)
            return control.assignments.specs, answers

    return asyncio.run(asyncio.wait_for(story(), 10))


def test_the_first_assignments_are_known_however_they_arrive(tmp_path: Path) -> None:
    frame = encode_frame({"number": 3, "assignments": LISTED})
    assert learned(tmp_path / "one", frame)[0] == SPECS
    assert learned(tmp_path / "two", frame[:7], frame[7:90], frame[90:])[0] == SPECS


def test_a_question_before_them_is_answered_too(tmp_path: Path) -> None:
    asked = encode_frame({"where": 9, "client": ("10.0.0.1", 1), "server": ("10.0.0.2", 2)})
    frame = encode_frame({"number": 3, "assignments": LISTED})
    specs, answers = learned(tmp_path / "one", asked + frame)
    assert specs == SPECS
    assert answers == [{"there": 9, "port": 0}, {"taken": 3}]


def test_a_quotegated_that_goes_before_it_said_anything_is_lost(tmp_path: Path) -> None:
    with pytest.raises(ControlLost):
        learned(tmp_path / "one", b"")
