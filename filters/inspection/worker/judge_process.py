"""One judging process, and what runs in it."""

import asyncio
import os
import threading
from concurrent.futures import ProcessPoolExecutor
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

Equipment = tuple[Material, Path | None]
"""What it judges by: the operator's files, and clamd's socket."""

WARM_S: Final = (
    240.0  # starting Python and compiling rules is no judging: it takes an emulated processor its time
)
_NOTHING = Job(0, 0, "", "", b"", whole=False)  # type: ignore[arg-type]
_equipment: Equipment = (Material(), None)  # of this judging process, for good


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
    judge = _judge(spec)
    return judge.judge(job.data, job.name, job.media_type, whole=job.whole, as_sent=job.as_sent)


class JudgeProcess:
    """A pool of one: when its process dies, nobody else's object was in it."""

    def __init__(self, equipment: Equipment) -> None:
        context = get_context("forkserver")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=equipment)

    def begin(self, spec: InspectionSpec, job: Job) -> asyncio.Future[list[Finding]]:
        """Begin to judge an object; raises BrokenProcessPool, now when it had died before, later when it dies now."""
        return asyncio.get_running_loop().run_in_executor(self._pool, judge_here, spec, job)

    async def warm(self) -> None:
        """Start it and compile what it needs; raises BrokenProcessPool, and TimeoutError when that takes far too long."""
        async with asyncio.timeout(WARM_S):
            await self.begin(InspectionSpec(), _NOTHING)

    def end(self) -> None:
        """End it, also when it hangs."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def pids(self) -> tuple[int, ...]:
        """Its process, once it runs."""
        return tuple(self._pool._processes or ())
