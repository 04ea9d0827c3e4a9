"""Keep the toolbox that flows are inspected with up to date: the operator's files are watched and taken all at once."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from filters.inspection.directory import read_directory, signature
from filters.inspection.material import Material, sift
from filters.inspection.objects.judge import Judge
from filters.inspection.spec import InspectionSpec
from filters.inspection.toolbox import Toolbox
from filters.inspection.worker.judging import Judging

LOOK_EVERY_S: Final = 0.5
AGAIN_S: Final = 5.0  # after what could not be taken
CLAMD: Final = "clamd.sock"  # beside the files: a link to where clamd listens
_log = logging.getLogger(__name__)


class Workshop:
    """The toolbox in use and the judging processes that use it too. Flows keep what they began with."""

    def __init__(self, directory: Path | None, told: Callable[[Material, tuple[str, ...]], None]) -> None:
        self._directory, self._told = directory, told
        self._clamd = directory / CLAMD if directory else None
        self._seen = signature(directory) if directory else frozenset()
        self._use(self._load(Material()))
        self.judging = Judging(self._toolbox.material, self._clamd, self._toolbox.limits.scan_s)

    async def open(self) -> None:
        """Compile what most flows need."""
        await self.judging.warm()

    def tell(self) -> None:
        """Say what is in use: this inspector is ready."""
        self._told(self._toolbox.material, self._toolbox.notes)

    def prepare(self, specs: Iterable[InspectionSpec]) -> None:
        """Compile what these need: netd does not wait so long for the verdict on a first packet."""
        for spec in specs:
            self.judge(spec)

    def judge(self, spec: InspectionSpec) -> Judge:
        """Return the engines for a rule, compiled once."""
        return self._judge(spec)

    def lacking(self, spec: InspectionSpec) -> frozenset[str]:
        """Return the detectors of a rule that could find nothing."""
        return self._toolbox.lacking(spec)

    async def watch(self) -> None:
        """Look for changes for ever. A change is taken when it has settled: two looks in a row see the same."""
        if self._directory is None:
            return
        before = self._seen
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                now = await asyncio.to_thread(signature, self._directory)
                if now == before and now != self._seen:
                    await self._renew()
                    self._seen = now
                before = now
            except (OSError, ValueError) as error:
                _log.error("the former rules stay in use: %s", error)
                await asyncio.sleep(AGAIN_S)

    async def _renew(self) -> None:
        toolbox = await asyncio.to_thread(self._load, self._toolbox.material)
        await self.judging.take(toolbox.material)
        self._use(toolbox)
        self.tell()

    def _load(self, former: Material) -> Toolbox:
        files = read_directory(self._directory) if self._directory else []
        toolbox = Toolbox(sift(files, former), clamd=self._clamd)
        toolbox.judge(InspectionSpec())
        for bad in toolbox.material.bad:
            _log.error("%s: %s%s", bad.name, bad.problem, "; its former content stays in use" * bad.kept)
        return toolbox

    def _use(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._judge = lru_cache(maxsize=64)(toolbox.judge)
