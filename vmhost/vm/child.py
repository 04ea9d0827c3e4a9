"""A process of a virtual machine: see it end at once, end it by its pid, quote its last words."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from vmhost.errors import HostError
from vmhost.log import shown
from vmhost.process import Program, Running, is_large, start
from vmhost.vm.whole import whole

LAST_WORDS = 600
LOOK_EVERY_S = 0.5


class Child:
    """A started program."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.name = running.program.name
        self.pid = running.process.pid

    @property
    def alive(self) -> bool:
        """Tell whether it still runs."""
        return self._running.alive

    async def ended(self) -> None:
        """Return once it has ended. Until then its log is emptied whenever it is too large: a guest can have QEMU write."""
        if not self.alive:  # its pid may be somebody else's by now
            return
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(fd, over.set)
        try:
            while not over.is_set():
                self._keep_log_small()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await over.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)

    def _keep_log_small(self) -> None:
        log = self._running.program.log
        if is_large(log):
            with suppress(OSError):  # it is written at its end, so what comes next stands at the new begin
                os.truncate(log, 0)

    def describe_end(self) -> str:
        """Say how it ended and what it wrote last."""
        status = self._running.process.poll()
        how = "runs" if status is None else f"ended with status {status}"
        return f"{self.name} (pid {self.pid}) {how}; it last said: {last_words(self._running.program.log)}"


@asynccontextmanager
async def child(program: Program) -> AsyncIterator[Child]:
    """Start a program; it is ended and waited for on leaving. Raises HostError."""
    try:
        one = Child(start(program))
    except OSError as error:
        raise HostError(
            "start-failed",
            f"{program.name}: starting {program.argv[0]}: expected a process, got {error}; check that it is installed",
        ) from error
    try:
        yield one
    finally:
        await whole(asyncio.to_thread(one._running.stop))


def last_words(log: Path) -> str:
    """Return the end of a log on one printable line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_WORDS))
            words = " | ".join(file.read(LAST_WORDS).decode(errors="replace").split("\n"))
    except OSError:
        words = ""
    return shown(words.strip(" |")) or "nothing"
