"""Record events: wrapped, numbered, durable. The one way from the service to the audit spool."""

import asyncio
from collections.abc import Callable

from gateway.audit.chain import Record
from gateway.audit.spool import AuditSpool
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.events.model import Event
from gateway.events.ocsf import Envelope, to_ocsf


class Recorder:
    """Await `record` before an effect that permits something; `note` what withdraws or observes."""

    def __init__(self, spool: AuditSpool, clock: Clock, gateway_id: str, revision: Callable[[], str]) -> None:
        self.spool = spool
        self._clock, self._gateway_id, self._revision = clock, gateway_id, revision
        self._tasks: set[asyncio.Task[Record]] = set()
        self._failed: asyncio.Future[None] | None = None

    async def record(self, event: Event) -> Record:
        """Return once the event is on disk; raises GatewayError `audit-failed`, which also ends the service."""
        time_ms, revision = int(self._clock.wall() * 1000), self._revision()
        try:
            return await self.spool.append(
                lambda sequence: to_ocsf(event, Envelope(sequence, time_ms, self._gateway_id, revision))
            )
        except GatewayError as error:
            if self._failed is not None and not self._failed.done():
                self._failed.set_exception(error)
            raise

    def note(self, event: Event) -> None:
        """Record without waiting for it."""
        task = asyncio.get_running_loop().create_task(self.record(event), name="note")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def wait_failed(self) -> None:
        """Wait until something could not be recorded, then raise why."""
        self._failed = asyncio.get_running_loop().create_future()
        await self._failed

    async def flush(self) -> None:
        """Wait until every note so far is on disk."""
        await asyncio.gather(*self._tasks)

    def _done(self, task: "asyncio.Task[Record]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told through wait_failed
