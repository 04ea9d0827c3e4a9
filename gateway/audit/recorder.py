"""Record events: wrapped, numbered, durable. The one way from the service to the audit spool."""

import asyncio
from collections.abc import Callable

from gateway.audit.allowance import Allowance
from gateway.audit.chain import Record
from gateway.audit.spool import AuditSpool
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.events.model import Event, EventsCounted
from gateway.events.ocsf import Envelope, event_code, to_ocsf

SINGLY, SINGLY_PER_S = 200.0, 0.2  # events of one kind and one cause that go on record one by one


class Recorder:
    """Await `record` before an effect that permits something; `note` what withdraws or observes."""

    def __init__(self, spool: AuditSpool, clock: Clock, gateway_id: str, revision: Callable[[], str]) -> None:
        self.spool = spool
        self._clock, self._gateway_id, self._revision = clock, gateway_id, revision
        self._tasks: set[asyncio.Task[Record]] = set()
        self._failure: GatewayError | None = None
        self._failed = asyncio.Event()
        self._allowance = Allowance(SINGLY, SINGLY_PER_S)

    async def record(self, event: Event, *, reserved: bool = False) -> Record:
        """Return once the event is on disk; raises GatewayError `audit-failed` or `audit-full`, which also end the service.

        `reserved`: it may take what is kept free for the way out of a full disk, and failing ends nothing.
        """
        return await self._kept(self._hand_over(event, reserved=reserved), reserved=reserved)

    def note(self, event: Event) -> None:
        """Record without waiting for it."""
        handed_over = self._hand_over(event)  # now: what happens later is recorded behind it
        task = asyncio.get_running_loop().create_task(self._kept(handed_over), name="note")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _hand_over(self, event: Event, *, reserved: bool = False) -> "asyncio.Future[Record]":
        time_ms, revision = int(self._clock.wall() * 1000), self._revision()
        return self.spool.hand_over(
            lambda sequence: to_ocsf(event, Envelope(sequence, time_ms, self._gateway_id, revision)),
            reserved=reserved,
        )

    async def _kept(self, handed_over: "asyncio.Future[Record]", *, reserved: bool = False) -> Record:
        try:
            return await handed_over
        except GatewayError as error:
            if not reserved:  # the way out of a full disk may be tried again, before the service has begun
                self._failure = self._failure or error
                self._failed.set()
            raise

    def permits(self, event: Event, who: str) -> bool:
        """Tell whether one more event that `who` can cause at will goes on record one by one; False: it was counted."""
        return self._allowance.permits(f"{event_code(event)} of {who}", self._clock.now())

    async def record_within(self, event: Event, who: str) -> None:
        """Record what `who` can cause at will, or count it; raises GatewayError `audit-failed`."""
        if self.permits(event, who):
            await self.record(event)

    def note_within(self, event: Event, who: str) -> None:
        """Record what `who` can cause at will, or count it, without waiting for it."""
        if self.permits(event, who):
            self.note(event)

    def note_counts(self) -> None:
        """Record how many events were counted instead since the last call."""
        for what, count in self._allowance.take_counts().items():
            self.note(EventsCounted(what, count))

    async def wait_failed(self) -> None:
        """Wait until something could not be recorded, whenever that was, then raise why."""
        await self._failed.wait()
        if self._failure:
            raise self._failure

    async def flush(self) -> None:
        """Wait until every note so far is on disk."""
        await asyncio.gather(*self._tasks)

    def _done(self, task: "asyncio.Task[Record]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told through wait_failed
