"""Judge objects in processes of their own: what breaks or hangs there costs one flow, and guests take turns."""

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

from filters.inspection.finding import Finding
from filters.inspection.material import Material
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import Job
from filters.inspection.worker.judge_process import Equipment, JudgeProcess
from filters.inspection.worker.turns import Turns
from filters.reason import DropReason

PROCESSES: Final = 2
GRACE_S: Final = 5.0
AGAIN_S: Final = 1.0
_log = logging.getLogger(__name__)


class Judging:
    """Judging processes, each with one object at a time; one that breaks is made anew."""

    def __init__(self, material: Material, clamd: Path | None, within_s: float) -> None:
        self._equipment: Equipment = (material, clamd)
        self._within_s = within_s + GRACE_S
        self._turns: Turns[JudgeProcess] = Turns()
        self._living: set[JudgeProcess] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._serving = {self._make(self._equipment) for _ in range(PROCESSES)}
        for process in self._serving:
            self._turns.give(process)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that run."""
        return tuple(pid for process in self._living for pid in process.pids)

    async def warm(self) -> None:
        """Start the processes and compile what they need; raises TimeoutError when that takes far too long."""
        await asyncio.gather(*(process.warm() for process in self._serving))

    async def take(self, material: Material) -> None:
        """Judge by other material once its processes are ready; what is being judged is finished by the former. Raises OSError."""
        equipment = material, self._equipment[1]
        fresh = [self._make(equipment) for _ in range(PROCESSES)]
        try:
            await asyncio.gather(*(process.warm() for process in fresh))
        except BaseException as error:
            for process in fresh:
                self._end(process)
            if isinstance(error, (BrokenProcessPool, EOFError)):
                raise ChildProcessError("a judging process with the new material does not start") from error
            raise
        self._equipment, self._serving = equipment, set(fresh)
        for process in self._turns.take_free():
            self._end(process)
        for process in fresh:
            self._turns.give(process)

    async def judge(self, guest: str, spec: InspectionSpec, job: Job) -> list[Finding]:
        """Return what is found in an object that a guest sent; a judge that died or hung is a finding too."""
        while True:
            try:
                process = await self._turns.take(guest)
            except BrokenProcessPool:
                return [_died("no process could be started that judges this object")]
            try:
                begun = process.begin(spec, job)
            except BrokenProcessPool:  # it had died before
                self._replace(process)
                continue
            # goes on when its flow is given up: the process is busy until then
            return await asyncio.shield(self._spawn(self._finish(process, begun)))

    async def _finish(self, process: JudgeProcess, begun: asyncio.Future[list[Finding]]) -> list[Finding]:
        try:
            async with asyncio.timeout(self._within_s):
                found = await begun
        except BrokenProcessPool:
            self._replace(process)
            return [_died("the process that judged this object died")]
        except TimeoutError:
            self._replace(process)
            within = f"judging took longer than {self._within_s:g} s"
            return [Finding(DropReason.INSPECTOR_TIMEOUT, "judge", within)]
        except Exception as error:  # noqa: BLE001 - whatever a parser of objects raises
            _log.error("judging an object broke: %r", error)
            found = [_died(f"{type(error).__name__} while this object was judged")]
        if process in self._serving:
            self._turns.give(process)
        else:  # other material is in use
            self._end(process)
        return found

    def _replace(self, broken: JudgeProcess) -> None:
        self._end(broken)
        if broken in self._serving:
            self._serving.remove(broken)
            self._spawn(self._restore(self._equipment))

    async def _restore(self, equipment: Equipment) -> None:
        """Put a fresh process in the place of one that broke."""
        while self._equipment is equipment:
            process = self._make(equipment)
            try:
                await process.warm()
            except (BrokenProcessPool, OSError, EOFError) as error:
                _log.error("a judging process does not start: %r", error)
                self._end(process)
                if not self._serving:
                    self._turns.refuse(BrokenProcessPool())
                await asyncio.sleep(AGAIN_S)
                continue
            if self._equipment is not equipment:
                self._end(process)
                return
            self._serving.add(process)
            self._turns.give(process)
            return

    def close(self) -> None:
        """End the processes, also those that hang."""
        for task in self._tasks:
            task.cancel()
        for process in list(self._living):
            self._end(process)

    def _make(self, equipment: Equipment) -> JudgeProcess:
        process = JudgeProcess(equipment)
        self._living.add(process)
        return process

    def _end(self, process: JudgeProcess) -> None:
        process.end()
        self._living.discard(process)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name="judging")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _died(detail: str) -> Finding:
    return Finding(DropReason.INSPECTOR_DOWN, "judge", detail)
