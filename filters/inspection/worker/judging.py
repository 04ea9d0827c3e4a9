"""Judge objects in processes of their own: what breaks or hangs there costs one flow."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context
from typing import Final

from filters.inspection.finding import Finding
from filters.inspection.objects.judge import Judge
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import Job
from filters.inspection.toolbox import Toolbox
from filters.reason import DropReason

PROCESSES: Final = 2
GRACE_S: Final = 5.0


@lru_cache(maxsize=1)
def _toolbox() -> Toolbox:
    return Toolbox()


@lru_cache(maxsize=64)
def _judge(spec: InspectionSpec) -> Judge:
    return _toolbox().judge(spec)


def judge_here(spec: InspectionSpec, job: Job) -> list[Finding]:
    """Judge an object in this process."""
    return _judge(spec).judge(job.data, job.name, job.media_type, whole=job.whole)


class Judging:
    """A pool of judging processes, made anew when one breaks."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s + GRACE_S
        self._pool = self._make()

    @staticmethod
    def _make() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(PROCESSES, mp_context=get_context("forkserver"))

    async def warm(self) -> None:
        """Start the processes and compile what they need."""
        await asyncio.gather(*(self._run(InspectionSpec(), _NOTHING) for _ in range(PROCESSES)))

    async def judge(self, spec: InspectionSpec, job: Job) -> list[Finding]:
        """Return what is found; a judge that died or hung is a finding too."""
        try:
            return await self._run(spec, job)
        except BrokenProcessPool:
            self._renew()
            return [Finding(DropReason.INSPECTOR_DOWN, "judge", "the process that judged this object died")]
        except TimeoutError:
            self._renew()
            return [
                Finding(
                    DropReason.INSPECTOR_TIMEOUT, "judge", f"judging took longer than {self._within_s:g} s"
                )
            ]

    async def _run(self, spec: InspectionSpec, job: Job) -> list[Finding]:
        async with asyncio.timeout(self._within_s):
            return await asyncio.get_running_loop().run_in_executor(self._pool, judge_here, spec, job)

    def _renew(self) -> None:
        self.close()
        self._pool = self._make()

    def close(self) -> None:
        """End the processes, also those that hang."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(wait=False, cancel_futures=True)


_NOTHING = Job(0, 0, "", "", b"", whole=False)  # type: ignore[arg-type]
