"""A guest that is a virtual machine, with the verbs the monitor has for every guest. They block: call them in threads."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from authn.tpm import TpmIdentity
from vmhost.vm.domain import Domain
from vmhost.vm.identity import identify
from vmhost.vm.vtpm import VtpmSpec

_FOR_EACH, _BESIDES = 2, 16


def threads_for(machines: int) -> ThreadPoolExecutor:
    """Make a loop's threads: a verb waits in one of them for work that needs another, for each machine at the same time."""
    return ThreadPoolExecutor(_FOR_EACH * machines + _BESIDES, thread_name_prefix="machines")


class VmGuest:
    """One VM; `loop` is where its domain lives, and never the caller's own."""

    def __init__(
        self, domain: Domain, vtpm: VtpmSpec, key: Callable[[], bytes], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.name, self.domain = domain.spec.name, domain
        self._vtpm, self._key, self._loop = vtpm, key, loop
        self._line: asyncio.Task[None] | None = None  # what is said between it and the host

    def identify(self) -> TpmIdentity:
        """Return the keys of its TPM, which must be off; raises HostError, AuthnError."""
        return identify(self._vtpm, self._key())

    def boot(self) -> None:
        """Check the firmware, measure, start; returns once the guest's first instruction ran. Raises HostError."""
        self._wait(self.domain.start())

    def power_off(self) -> None:
        """Pull the plug: what was taken over is not asked to shut down."""
        self._wait(self._hang_up())
        self._wait(self.domain.stop())

    def pids(self) -> dict[str, int]:
        """Return what runs, by name."""
        machine = self.domain.machine
        return {} if machine is None else {"qemu": machine.qemu.pid, "swtpm": machine.vtpm.pid}

    async def _hang_up(self) -> None:
        if self._line is not None:
            self._line.cancel()
            await asyncio.gather(self._line, return_exceptions=True)
            self._line = None

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()
