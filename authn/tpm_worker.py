"""Give a TPM one thread of its own: two callers on one TPM connection interleave, and asyncio programs must not block."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from authn.tpm import Tpm

T = TypeVar("T")


class TpmWorker:
    """A TPM with a thread of its own for asyncio programs; it connects at its first use."""

    def __init__(self, tcti: str) -> None:
        self._tcti = tcti
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tpm")
        self._tpm: Tpm | None = None

    async def run(self, work: Callable[[Tpm], T]) -> T:
        """Run `work` on the TPM's thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def _run(self, work: Callable[[Tpm], T]) -> T:
        if self._tpm is None:
            self._tpm = Tpm(self._tcti)
        return work(self._tpm)

    def close(self) -> None:
        """End the thread and close the connection."""
        self._thread.shutdown(wait=True)
        if self._tpm is not None:
            self._tpm.close()
