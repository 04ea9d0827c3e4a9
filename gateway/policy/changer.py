"""Change the policy in force: apply, confirm, return by itself, roll back. One change at a time.

A text that does not parse, fails its own tests, is refused by the kernel or can't be stored changes nothing. A stored text that does not
parse any more (another version of this program wrote it), or that the kernel refuses, leaves no policy in force: nothing passes until an operator applies one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from filters.errors import FiltersError
from filters.netd.protocol import NetdCode
from filters.policy.model import Policy
from gateway.audit.recorder import Recorder
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.events.model import PolicyApplied, PolicyClosed
from gateway.kernel import Kernel
from gateway.policy.confirmation import Confirmation
from gateway.policy.holder import EMPTY, PolicyHolder, check_text
from gateway.policy.revisions import ON_PROBATION, Revisions

Revoked = Callable[[tuple[int, ...]], Awaitable[int]]
ITSELF = "quotegated"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """What a change did. `number` is the history's; `warnings` name rules that never decide."""

    number: int
    revision: str
    sessions_cut: int
    warnings: tuple[str, ...]


class PolicyChanger:
    """The only way in which the policy in force changes. `revoked` closes sessions by their lease ids."""

    def __init__(
        self,
        holder: PolicyHolder,
        revisions: Revisions,
        kernel: Kernel,
        recorder: Recorder,
        clock: Clock,
        revoked: Revoked,
    ) -> None:
        self._holder, self.revisions, self._kernel = holder, revisions, kernel
        self._recorder, self._clock, self._revoked = recorder, clock, revoked
        self.confirmation = Confirmation()
        self.closed = ""  # why the policy that should be in force is not
        self._lock = asyncio.Lock()

    async def start(self, first_text: str, file: str) -> None:
        """Put in force what was in force before, or the first text.

        A policy that was on probation when the service ended is not taken up again: nobody confirmed it.
        """
        async with self._lock:
            await self._take_up(first_text, file)

    async def _take_up(self, first_text: str, file: str) -> None:
        fallback, current = self.revisions.pending_fallback(), self.revisions.current()
        if fallback is not None:
            await self._return_to(fallback)
        elif current is None:
            await self._switch(first_text, await _checked(first_text, file), ITSELF, "set up")
        else:
            text = self.revisions.text(current.number)
            try:
                policy, _ = await _checked(text, f"revision {current.number}")
                await self._kernel.load_policy(await asyncio.to_thread(self._holder.compile, policy))
            except FiltersError as error:
                await self._close(current.number, error)
                return
            self._holder.policy = policy

    async def _return_to(self, number: int) -> None:
        """Put back in force what nobody needs to confirm."""
        try:
            text = self.revisions.text(number)
            await self._switch(text, await _checked(text, f"revision {number}"), ITSELF, "returned")
        except FiltersError as error:
            await self._close(number, error)

    async def _close(self, number: int, error: FiltersError) -> None:
        """Put no policy in force; the history keeps the one that can't be taken up, for a version that can.

        Without that the service would end over what the kernel refuses, at each start again, and nobody could apply another.
        """
        if error.code == NetdCode.GONE:
            raise error
        self.closed = f"{error.message}; apply one that this version takes: quotegate policy apply FILE"
        _log.error("the policy in force can't be taken up, so nothing passes: %s", self.closed)
        gone = await self._kernel.load_policy(await asyncio.to_thread(self._holder.compile, EMPTY))
        self._holder.policy = EMPTY
        stored = next((one.revision for one in self.revisions.history(-1) if one.number == number), "")
        self._recorder.note(PolicyClosed(stored, self.closed))
        await self._revoked(gone)

    async def apply(self, text: str, file: str, actor: str, confirm_within_s: float | None) -> Change:
        """Put another policy in force, on probation where a time is given; raises GatewayError, FiltersError."""
        async with self._lock:
            self.confirmation.check_free(self._clock.now())
            if confirm_within_s is not None:
                self.confirmation.check_within(confirm_within_s)
            policy, warnings = await _checked(text, file)
            checked = policy, warnings + await asyncio.to_thread(self._holder.check_new, policy)
            if confirm_within_s is None:
                return await self._switch(text, checked, actor, "applied")
            current = self.revisions.current()
            fallback = current.number if current else 0
            change = await self._switch(text, checked, actor, ON_PROBATION, fallback)
            self.confirmation.begin(fallback, self._clock.now() + confirm_within_s)
            return change

    async def confirm(self, actor: str) -> None:
        """Keep the policy that is on probation; raises GatewayError `nothing-to-confirm`."""
        async with self._lock:
            self.confirmation.check_waits(self._clock.now())
            self.revisions.confirm()
            self.confirmation.end()
            revision = self._holder.policy.revision
            await self._recorder.record(PolicyApplied(revision, revision, actor, 0, "confirmed"))

    async def rollback(self, wanted: str | None, actor: str) -> Change:
        """Go back: to the named revision, to what stood before the probation, or to the one before."""
        async with self._lock:
            pending = self.confirmation.pending
            if wanted:
                target = self.revisions.find(wanted).number
            else:
                target = pending.fallback if pending else self.revisions.before().number
            text = self.revisions.text(target)
            change = await self._switch(
                text, await _checked(text, f"revision {target}"), actor, "rolled back"
            )
            self.confirmation.end()
            return change

    async def watch(self) -> None:
        """Let the former policy return when its successor was not confirmed in time."""
        if self._lock.locked():
            return
        async with self._lock:
            fallback = self.confirmation.take_due(self._clock.now())
            if fallback is not None:
                await self._return_to(fallback)

    async def _switch(
        self,
        text: str,
        checked: tuple[Policy, list[str]],
        actor: str,
        outcome: str,
        fallback: int | None = None,
    ) -> Change:
        policy, warnings = checked
        compiled = await asyncio.to_thread(self._holder.compile, policy)
        before = self._holder.policy
        await self._recorder.record(PolicyApplied(policy.revision, before.revision, actor, 0, outcome))
        try:
            gone = await self._kernel.load_policy(compiled)
            number = self.revisions.add(policy.revision, text, self._clock.wall(), actor, outcome, fallback)
        except (FiltersError, GatewayError) as error:  # a store that fails ends the service
            why = "could not be stored" if isinstance(error, GatewayError) else "refused by the kernel"
            await self._recorder.record(PolicyApplied(before.revision, policy.revision, actor, 0, why))
            raise
        self._holder.policy, self.closed = policy, ""
        return Change(number, policy.revision, await self._revoked(gone), tuple(warnings))


async def _checked(text: str, file: str) -> tuple[Policy, list[str]]:
    """Check in a thread: a large policy takes longer than a beacon may wait. Raises PolicyError."""
    return await asyncio.to_thread(check_text, text, file)
