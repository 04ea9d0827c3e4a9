"""Await what must not be left half done."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


async def whole(work: Awaitable[T]) -> T:
    """Await work to its end, also when cancelled meanwhile; the cancellation takes effect after that."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what counts now
        raise cancelled
    return task.result()


@asynccontextmanager
async def in_thread(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter a context manager in a thread, and leave it again in all cases, however we are cancelled."""
    entering = asyncio.ensure_future(asyncio.to_thread(manager.__enter__))
    try:
        value = await whole(entering)
    except asyncio.CancelledError:
        if not entering.cancelled() and entering.exception() is None:
            manager.__exit__(None, None, None)
        raise
    try:
        yield value
    finally:
        manager.__exit__(None, None, None)
