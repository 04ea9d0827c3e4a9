"""Judge objects in processes of their own: what breaks or hangs there costs one flow."""

import asyncio
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Final

from filters.inspection.finding import Finding
from filters.inspection.material import Material
from filters.inspection.objects.judge import Judge
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import Job
from filters.inspection.toolbox import Toolbox
from filters.inspection.worker.confinement import confine_judge
from filters.memory import forbid_inspection
from filters.reason import DropReason

PROCESSES: Final = 2
GRACE_S: Final = 5.0
WARM_S: Final = (
    240.0  # starting Python and compiling rules is no judging: it takes an emulated processor its time
)
_equipment: tuple[Material, Path | None] = (Material(), None)  # of this judging process, for good


def _begin(material: Material, clamd: Path | None) -> None:
    """Set up this judging process."""
    global _equipment  # noqa: PLW0603 - a pool's processes have no other place for it
    _equipment = material, clamd
    forbid_inspection()
    confine_judge()
    # after that: a thread is confined like the one that starts it
    threading.Thread(target=_end_with_inspector, name="the inspector's life", daemon=True).start()


def _end_with_inspector() -> None:
    """End when the inspector is killed: the pool's own processes would wait for work for ever."""
    if inspector := parent_process():
        inspector.join()
        os._exit(1)


@lru_cache(maxsize=1)
def _toolbox() -> Toolbox:
    material, clamd = _equipment
    return Toolbox(material, clamd=clamd)


@lru_cache(maxsize=64)
def _judge(spec: InspectionSpec) -> Judge:
    return _toolbox().judge(spec)


def judge_here(spec: InspectionSpec, job: Job) -> list[Finding]:
    """Judge an object in this process."""
    return _judge(spec).judge(job.data, job.name, job.media_type, whole=job.whole)


class Judging:
    """A pool of judging processes, made anew when one breaks."""

    def __init__(self, material: Material, clamd: Path | None, within_s: float) -> None:
        self._material, self._clamd, self._within_s = material, clamd, within_s + GRACE_S
        self._pool = self._make()

    def _make(self) -> ProcessPoolExecutor:
        context, equipment = get_context("forkserver"), (self._material, self._clamd)
        return ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=_begin, initargs=equipment)

    async def warm(self) -> None:
        """Start the processes and compile what they need; raises TimeoutError when that takes far too long."""
        async with asyncio.timeout(WARM_S):
            jobs = (self._run(self._pool, InspectionSpec(), _NOTHING) for _ in range(PROCESSES))
            await asyncio.gather(*jobs)

    async def take(self, material: Material) -> None:
        """Judge by other material from now on; what is being judged is finished by the former."""
        self._material, former = material, self._pool
        self._pool = self._make()
        former.shutdown(wait=False)
        await self.warm()

    async def judge(self, spec: InspectionSpec, job: Job) -> list[Finding]:
        """Return what is found; a judge that died or hung is a finding too."""
        pool = self._pool
        try:
            async with asyncio.timeout(self._within_s):
                return await self._run(pool, spec, job)
        except BrokenProcessPool:
            self._replace(pool)
            return [Finding(DropReason.INSPECTOR_DOWN, "judge", "the process that judged this object died")]
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # the flow is given up
                raise
            waited = "the processes were replaced while this object waited for one"
            return [Finding(DropReason.INSPECTOR_DOWN, "judge", waited)]
        except TimeoutError:
            self._replace(pool)
            within = f"judging took longer than {self._within_s:g} s"
            return [Finding(DropReason.INSPECTOR_TIMEOUT, "judge", within)]

    async def _run(self, pool: ProcessPoolExecutor, spec: InspectionSpec, job: Job) -> list[Finding]:
        return await asyncio.get_running_loop().run_in_executor(pool, judge_here, spec, job)

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        _end(broken)
        if broken is self._pool:  # once, however many objects it was judging
            self._pool = self._make()

    def close(self) -> None:
        """End the processes, also those that hang."""
        _end(self._pool)


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)


_NOTHING = Job(0, 0, "", "", b"", whole=False)  # type: ignore[arg-type]
