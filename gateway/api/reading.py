"""Bound what those cost who may only read: threads of their own, and the audit record verified for one at a time.

The gateway needs the default threads itself: to keep heads and evidence, to compile policies.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from gateway.api.places import Busy

T = TypeVar("T")
_READERS = ThreadPoolExecutor(2, "api reader")
_VERIFIER = ThreadPoolExecutor(1, "audit verifier")


async def read(work: Callable[[], T]) -> T:
    """Do short reading beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(_READERS, work)


async def verify(work: Callable[[], T]) -> T:
    """Do the long reading of the whole record beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(_VERIFIER, work)


class Turns:
    """One after the other, in the order in which they asked; nobody waits twice."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._asking: set[str] = set()

    @asynccontextmanager
    async def turn(self, actor: str) -> AsyncIterator[None]:
        """Wait for one's turn; raises Busy to who already has or awaits one."""
        if actor in self._asking:
            raise Busy(
                "busy",
                f"audit verify: {actor} has one under way, expected one at a time; try again when it has ended",
            )
        self._asking.add(actor)
        try:
            async with self._lock:
                yield
        finally:
            self._asking.discard(actor)
