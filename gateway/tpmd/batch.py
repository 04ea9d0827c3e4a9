"""Let many waiting handshakes share one quote: group commit over a Merkle tree (docs/protocol.md).

No timer: while the TPM is busy with one batch, the next one fills.
"""

import asyncio
from collections.abc import Awaitable, Callable

from authn import merkle
from authn.evidence import Quote
from authn.handshake_messages import BatchQuote

QuoteRoot = Callable[[int, bytes], Awaitable[Quote]]


class QuoteBatcher:
    """Collect leaves while the TPM is busy and quote them together."""

    def __init__(self, quote_root: QuoteRoot) -> None:
        self._quote_root = quote_root
        self._waiting: list[tuple[bytes, asyncio.Future[BatchQuote]]] = []
        self._draining: asyncio.Task[None] | None = None

    async def quote(self, leaf: bytes) -> BatchQuote:
        """Return a quote that covers `leaf`; raises what the TPM raises."""
        future: asyncio.Future[BatchQuote] = asyncio.get_running_loop().create_future()
        self._waiting.append((leaf, future))
        if self._draining is None:  # a task of its own: whoever came first may go, and others wait
            self._draining = asyncio.create_task(self._drain(), name="quotes")
        return await future

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: merkle.MAX_LEAVES], self._waiting[merkle.MAX_LEAVES :]
                await self._quote_batch(batch)
        finally:
            self._draining = None

    async def _quote_batch(self, batch: list[tuple[bytes, "asyncio.Future[BatchQuote]"]]) -> None:
        tree = merkle.Tree([leaf for leaf, _ in batch])
        try:
            quote = await self._quote_root(len(batch), tree.root)
        except Exception as error:  # noqa: BLE001 - every waiter must hear of it, whatever it was
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for index, (_, future) in enumerate(batch):
            if not future.done():
                future.set_result(BatchQuote(quote, index, len(batch), tree.path(index)))
