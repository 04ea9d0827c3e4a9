"""Give a TPM one thread of its own: two callers on one TPM connection interleave, and asyncio programs must not block."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from authn.errors import TpmError
from authn.tpm import Tpm

T = TypeVar("T")


class TpmWorker:
    """A TPM with a thread of its own for asyncio programs; it connects at its first use, and anew after a command that failed."""

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
        try:
            return work(self._tpm)
        except TpmError:
            # a command that broke off leaves tpm2-tss waiting for its answer: that connection takes no other
            self._tpm.close()
            self._tpm = None
            raise

    def close(self) -> None:
        """End the thread and close the connection."""
        self._thread.shutdown(wait=True)
        if self._tpm is not None:
            self._tpm.close()
