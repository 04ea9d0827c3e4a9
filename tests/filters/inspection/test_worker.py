"""The inspector's own process: what hangs ends itself; what judges breaks alone."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from filters.inspection.material import Material, SourceFile, sift
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import Job
from filters.inspection.worker.judging import PROCESSES, Judging
from filters.reason import DropReason

OBJECT = Job(1, None, "", "", b"own malware", whole=True)  # type: ignore[arg-type]


def test_what_hangs_is_ended_by_the_kernel() -> None:
    code = (
        "import asyncio\n"
        "from filters.inspection.worker import main\n"
        "main.HANG_S = 1\n"
        "async def hang():\n"
        "    asyncio.create_task(main.stay_alive(lambda: None))\n"
        "    await asyncio.sleep(0.1)\n"
        "    print('alive', flush=True)\n"
        "    while True: pass\n"
        "asyncio.run(hang())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == (b"alive\n", -signal.SIGALRM)


def test_judges_take_new_material_and_are_replaced_when_killed() -> None:
    rule = SourceFile("own.yar", b'rule own { strings: $a = "own malware" condition: $a }')

    async def story() -> list[list[str]]:
        judging = Judging(Material(), None, 10)
        told = []
        try:
            told.append(await judging.judge(InspectionSpec(), OBJECT))
            await judging.take(sift([rule], Material()))
            told.append(await judging.judge(InspectionSpec(), OBJECT))
            for process in judging._pool._processes.values():
                process.kill()
            told.append(await judging.judge(InspectionSpec(), OBJECT))
            told.append(await judging.judge(InspectionSpec(), OBJECT))
        finally:
            judging.close()
        return [[one.check for one in found] for found in told]

    assert asyncio.run(story()) == [[], ["yara.own"], ["judge"], ["yara.own"]]


def test_judges_end_with_an_inspector_that_is_killed() -> None:
    code = (
        "import asyncio, os, signal\n"
        "from filters.inspection.material import Material\n"
        "from filters.inspection.worker.judging import Judging\n"
        "async def story():\n"
        "    judging = Judging(Material(), None, 10)\n"
        "    await judging.warm()\n"
        "    print(*judging._pool._processes, flush=True)\n"
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


def test_who_waits_behind_a_judge_that_hangs_hears_so() -> None:
    """What was not begun is cancelled with the processes: its flow must not wait for ever."""

    async def story() -> set[str]:
        judging = Judging(Material(), None, 10)
        try:
            await judging.warm()
            for process in judging._pool._processes.values():
                assert process.pid
                os.kill(process.pid, signal.SIGSTOP)
            judging._within_s = 0.3
            waiting = [asyncio.create_task(judging.judge(InspectionSpec(), OBJECT)) for _ in range(20)]
            await asyncio.sleep(0.1)
            judging._within_s = 30
            waiting += [asyncio.create_task(judging.judge(InspectionSpec(), OBJECT)) for _ in range(20)]
            found = await asyncio.wait_for(asyncio.gather(*waiting), 10)
            return {one[0].reason for one in found}
        finally:
            judging.close()

    assert asyncio.run(story()) == {DropReason.INSPECTOR_TIMEOUT, DropReason.INSPECTOR_DOWN}


def test_a_flow_that_is_given_up_gives_its_judgement_up() -> None:
    async def story() -> None:
        judging = Judging(Material(), None, 10)
        try:
            waiting = asyncio.create_task(judging.judge(InspectionSpec(), OBJECT))
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
            for process in judging._pool._processes.values():
                assert process.pid
                os.kill(process.pid, signal.SIGSTOP)
            return (await judging.judge(InspectionSpec(), OBJECT))[0].reason
        finally:
            judging.close()

    assert asyncio.run(story()) == DropReason.INSPECTOR_TIMEOUT
