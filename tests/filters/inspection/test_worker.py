"""The inspector's own process: what hangs ends itself; what judges breaks alone."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from unittest.mock import Mock

import pytest

from filters.inspection.finding import Direction, Finding
from filters.inspection.material import Material, SourceFile, sift
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import Job
from filters.inspection.worker import main
from filters.inspection.worker.flow import Ends, Flow
from filters.inspection.worker.judge_process import JudgeProcess
from filters.inspection.worker.judging import PROCESSES, Judging
from filters.inspection.worker.memory import Memory
from filters.reason import DropReason
from tests.filters.inspection.drive import SPEC, toolbox

OBJECT = Job(1, None, "", "", b"own malware", whole=True)  # type: ignore[arg-type]


def test_what_hangs_is_ended_by_the_kernel() -> None:
    code = (
        "import asyncio\n"
        "from filters.inspection.worker import main\n"
        "main.HANG_S = 1\n"
        "async def hang():\n"
        "    asyncio.create_task(main.stay_alive(main.Pulse(lambda: None)))\n"
        "    await asyncio.sleep(0.1)\n"
        "    print('alive', flush=True)\n"
        "    while True: pass\n"
        "asyncio.run(hang())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == (b"alive\n", -signal.SIGALRM)


def test_keeps_an_inspector_that_does_much_in_many_short_pieces() -> None:
    """The loop gets no turn for longer than a hang may last, and those who watch hear of it all the same."""
    code = (
        "import time\n"
        "from filters.inspection.worker import main\n"
        "main.HANG_S, main.BEAT_S = 3, 0.3\n"
        "told = []\n"
        "pulse = main.Pulse(lambda: told.append(1))\n"
        "for _ in range(20):\n"
        "    pulse.beat()\n"
        "    time.sleep(0.2)\n"
        "print(len(told))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0
    assert 3 <= int(done.stdout) < 20


def test_measures_each_piece_by_itself() -> None:
    beats: list[int] = []
    judge = toolbox().judge(SPEC)

    async def never(_: Job) -> list[Finding]:
        raise AssertionError

    flow = Flow(
        Ends(("10.0.0.1", 1), ("10.0.0.2", 2)), "rule", judge, never, lambda *_: None, Memory(), None, lambda: beats.append(1)
    )  # fmt: skip
    flow.received(Direction.TO_SERVER, b"\x01binary")
    flow.received(Direction.TO_SERVER, b"\x02binary")
    flow.reset()
    assert len(beats) == 2


def test_judges_take_new_material_and_are_replaced_when_killed() -> None:
    rule = SourceFile("own.yar", b'rule own { strings: $a = "own malware" condition: $a }')

    async def story() -> list[list[str]]:
        judging = Judging(Material(), None, 10)
        told = []
        try:
            told.append(await judging.judge("a", InspectionSpec(), OBJECT))
            await judging.take(sift([rule], Material()))
            told.append(await judging.judge("a", InspectionSpec(), OBJECT))
            for pid in judging.pids:
                os.kill(pid, signal.SIGKILL)
            told += [await judging.judge("a", InspectionSpec(), OBJECT) for _ in range(PROCESSES + 1)]
        finally:
            judging.close()
        return [[one.check for one in found] for found in told]

    first, second, *killed, last = asyncio.run(story())
    assert (first, second, last) == ([], ["yara.own"], ["yara.own"])
    assert all(one in (["judge"], ["yara.own"]) for one in killed)  # whether it was noticed before


def test_judges_end_with_an_inspector_that_is_killed() -> None:
    code = (
        "import asyncio, os, signal\n"
        "from filters.inspection.material import Material\n"
        "from filters.inspection.worker.judging import Judging\n"
        "async def story():\n"
        "    judging = Judging(Material(), None, 10)\n"
        "    await judging.warm()\n"
        "    print(*judging.pids, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(story())\n"
    )
    # their standard output is this one's: it stays open as long as one of them lives
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(done.stdout.split()) == PROCESSES


def test_a_slow_start_of_judges_is_no_timeout() -> None:
    async def story() -> None:
        judging = Judging(Material(), None, 10)
        judging._within_s = 0.001
        try:
            await judging.warm()
        finally:
            judging.close()

    asyncio.run(story())


def test_a_judge_that_hangs_costs_its_own_object_alone() -> None:
    async def story() -> list[str]:
        judging = Judging(Material(), None, 10)
        try:
            await judging.warm()
            for pid in judging.pids:
                os.kill(pid, signal.SIGSTOP)
            judging._within_s = 0.5
            hanging = [
                asyncio.create_task(judging.judge("a", InspectionSpec(), OBJECT)) for _ in range(PROCESSES)
            ]
            await asyncio.sleep(0.1)
            judging._within_s = 30
            waiting = [judging.judge(guest, InspectionSpec(), OBJECT) for guest in "aabbcc" * 3]
            found = await asyncio.wait_for(asyncio.gather(*waiting), 30)
            assert all(one == [] for one in found)
            return [(await one)[0].reason for one in hanging]
        finally:
            judging.close()

    assert asyncio.run(story()) == [DropReason.INSPECTOR_TIMEOUT] * PROCESSES


def test_a_guests_many_objects_do_not_keep_anothers_waiting() -> None:
    async def story() -> list[str]:
        judging, order = Judging(Material(), None, 10), []

        async def judged(guest: str) -> None:
            await judging.judge(guest, InspectionSpec(), OBJECT)
            order.append(guest)

        try:
            await judging.warm()
            async with asyncio.TaskGroup() as group:
                for _ in range(200):
                    group.create_task(judged("greedy"))
                await asyncio.sleep(0)
                group.create_task(judged("modest"))
        finally:
            judging.close()
        return order

    assert asyncio.run(story()).index("modest") <= 2 * PROCESSES


@pytest.mark.parametrize("error", [BrokenProcessPool, ConnectionRefusedError, EOFError])
def test_while_no_judge_can_be_started_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    async def story() -> list[list[Finding]]:
        judging = Judging(Material(), None, 10)
        try:
            await judging.warm()

            async def broken(_: JudgeProcess) -> None:
                raise error

            monkeypatch.setattr(JudgeProcess, "warm", broken)
            for pid in judging.pids:
                os.kill(pid, signal.SIGKILL)
            waiting = (judging.judge("a", InspectionSpec(), OBJECT) for _ in range(20))
            return await asyncio.wait_for(asyncio.gather(*waiting), 10)
        finally:
            judging.close()

    found = asyncio.run(story())
    assert {one[0].reason for one in found} == {DropReason.INSPECTOR_DOWN}


def test_material_whose_judges_do_not_start_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> list[Finding]:
        judging = Judging(Material(), None, 10)
        try:
            await judging.warm()
            before = judging.pids

            async def broken(_: JudgeProcess) -> None:
                raise BrokenProcessPool

            with monkeypatch.context() as patch:
                patch.setattr(JudgeProcess, "warm", broken)
                with pytest.raises(OSError, match="does not start"):
                    await judging.take(Material())
            assert judging.pids == before
            return await judging.judge("a", InspectionSpec(), OBJECT)
        finally:
            judging.close()

    assert asyncio.run(story()) == []


def test_what_breaks_while_it_judges_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> list[list[Finding]]:
        judging = Judging(Material(), None, 10)
        odd = Job(1, None, "", "", 1, whole=True)  # type: ignore[arg-type]
        try:
            jobs = [odd] * (PROCESSES + 1) + [OBJECT]
            return [await judging.judge("a", InspectionSpec(), one) for one in jobs]
        finally:
            judging.close()

    *broke, well = asyncio.run(story())
    assert [one[0].reason for one in broke] == [DropReason.INSPECTOR_DOWN] * (PROCESSES + 1)
    assert well == []


def test_a_flow_that_is_given_up_gives_its_judgement_up() -> None:
    async def story() -> None:
        judging = Judging(Material(), None, 10)
        try:
            waiting = asyncio.create_task(judging.judge("a", InspectionSpec(), OBJECT))
            await asyncio.sleep(0.01)
            waiting.cancel()
            await waiting
        finally:
            judging.close()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(story())


def test_a_judge_that_hangs_is_a_timeout() -> None:
    async def story() -> str:
        judging = Judging(Material(), None, 10)
        try:
            await judging.warm()
            judging._within_s = 0.2
            for pid in judging.pids:
                os.kill(pid, signal.SIGSTOP)
            return (await judging.judge("a", InspectionSpec(), OBJECT))[0].reason
        finally:
            judging.close()

    assert asyncio.run(story()) == DropReason.INSPECTOR_TIMEOUT


def test_connections_wait_while_there_is_no_room_for_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "AGAIN_S", 0.1)

    async def story() -> None:
        carried: list[str] = []
        inspector = main.Inspector(Mock(), Mock(), Mock())

        async def carry(near: socket.socket, client: tuple[str, int]) -> None:
            carried.append(client[0])
            near.close()

        monkeypatch.setattr(inspector, "_carry", carry)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            with socket.create_connection(listener.getsockname()), monkeypatch.context() as scarce:
                scarce.setattr(socket.socket, "_accept", Mock(side_effect=OSError(errno.EMFILE, "no more")))
                asyncio.get_running_loop().add_reader(listener.fileno(), inspector._accept_all, listener)
                await asyncio.sleep(0.05)
                assert socket.socket._accept.call_count == 1  # type: ignore[attr-defined]
                assert carried == []
                scarce.undo()
                await asyncio.sleep(0.2)
                assert carried == ["127.0.0.1"]
            asyncio.get_running_loop().remove_reader(listener.fileno())

    asyncio.run(story())
