"""Restart failed peers within their budget, then quarantine them."""

import asyncio
from collections.abc import Callable, Coroutine

from authn.failure import PAST_RESTARTS
from filters.policy.model import OnFail
from gateway.audit.recorder import Recorder
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.events.model import PeerRemedied
from gateway.kernel import Kernel
from gateway.recovery.budget import Remedy, prescribe
from gateway.recovery.restarter import KEPT_OFF, Restarter
from gateway.registry.registry import PeerRecord, Registry
from gateway.registry.states import PeerState, Trigger
from gateway.store.store import Store

# not back yet: what became of every other state has somebody else to see to it
_AWAY = (PeerState.RESTARTING, PeerState.ENROLLED, PeerState.ATTESTING)


ASK_AGAIN_S = 1.0


class Recovery:
    """One recovery at a time per peer; each restart is on record before it happens.

    A machine that was restarted, by whomever, has to prove itself in time: one that hangs fails like any other. While it is
    refused for what only an operator can mend, its time does not run.
    """

    def __init__(
        self,
        registry: Registry,
        kernel: Kernel,
        store: Store,
        recorder: Recorder,
        restarter: Restarter,
        clock: Clock,
        on_fail: Callable[[str], OnFail],
        knows: Callable[[str], bool],
        return_within_s: float,
    ) -> None:
        """knows: whether the policy has a peer. return_within_s: how long a machine that was restarted may take to be trusted again."""
        self._registry, self._kernel, self._store, self._recorder = registry, kernel, store, recorder
        self._restarter, self._clock, self._on_fail, self._knows = restarter, clock, on_fail, knows
        self._return_within_s = return_within_s
        self._running: dict[str, asyncio.Task[None]] = {}
        self._errors: asyncio.Queue[GatewayError] = asyncio.Queue()

    def begin(self, peer: PeerRecord, reason: str) -> None:
        """Start the recovery of a failed peer, unless one is under way."""
        self._see_to(peer, lambda: self._recover(peer, reason))

    def expect(self, peer: PeerRecord, after: str) -> None:
        """Recover a peer that does not prove itself in time, counted from now; `after` says what happened now."""
        self._see_to(peer, lambda: self._return_or_recover(peer, after))

    def _see_to(self, peer: PeerRecord, work: Callable[[], Coroutine[None, None, None]]) -> None:
        if peer.name not in self._running:
            task = asyncio.get_running_loop().create_task(work(), name=f"recover {peer.name}")
            self._running[peer.name] = task
            task.add_done_callback(lambda done: self._ended(peer.name, done))

    def _ended(self, peer: str, task: "asyncio.Task[None]") -> None:
        self._running.pop(peer, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            said = f"the recovery of {peer} ended: {error!r}; nobody would see to it any more: the gateway starts anew"
            self._errors.put_nowait(GatewayError("recovery-failed", said))

    async def wait_failed(self) -> None:
        """Raise GatewayError `recovery-failed` once a recovery ended by an error: that is no state to go on in."""
        raise await self._errors.get()

    async def expect_all(self, after: str) -> None:
        """Have every enrolled peer whose machine is to run prove itself in time: it may hang, or have died, since before our start."""
        while True:
            try:
                machines = await self._restarter.machines()
                break
            except GatewayError:  # the monitor is not there yet, or away: nobody could restart anything
                await asyncio.sleep(ASK_AGAIN_S)
        for peer in self._registry:
            due = self._knows(peer.name) and machines.get(peer.name, False)
            if due and peer.state is PeerState.ENROLLED:
                self.expect(peer, after)

    async def restart(self, peer: PeerRecord, reason: str) -> None:
        """Restart a peer at an operator's word; the budget does not count it."""
        await self._kernel.distrust(peer.ip)
        self._registry.move(peer, Trigger.RESTART_BEGUN, reason)
        await self._recorder.record(PeerRemedied(peer.name, Remedy.RESTART, reason, -1))
        await self._restart_and_expect(peer, reason)

    async def quarantine(self, peer: PeerRecord, reason: str) -> None:
        """Keep a peer out until it is released; this survives restarts of the gateway."""
        await self._kernel.quarantine(peer.ip, True)
        self._store.quarantine(peer.name, reason)
        if peer.link is not None:
            peer.link.close()
            peer.link = None
        peer.silent_since = None
        self._registry.move(peer, Trigger.QUARANTINED, reason)
        self._recorder.note(PeerRemedied(peer.name, Remedy.QUARANTINE, reason, 0))

    async def release(self, peer: PeerRecord) -> None:
        """End a quarantine; the peer has to restart and attest, one that was forgotten meanwhile to be approved first."""
        self._registry.move(peer, Trigger.RELEASED, "released")
        await self._recorder.record(PeerRemedied(peer.name, "release", "released by the operator", 0))
        self._store.release(peer.name)
        await self._kernel.quarantine(peer.ip, False)
        known = self._store.identity(peer.name)
        if known is None or not known.approved:
            self._registry.move(peer, Trigger.FORGOTTEN, "released")
            await self._restart_machine(peer, "released")
            return  # however long it waits for approval, it has nothing to prove before
        self._registry.move(peer, Trigger.RESTART_BEGUN, "released")
        await self._restart_and_expect(peer, "released")

    async def _restart_and_expect(self, peer: PeerRecord, reason: str) -> None:
        """Restart, and expect it back also where that failed: it may prove itself anew meanwhile, or is recovered."""
        try:
            await self._restart_machine(peer, reason)
        except GatewayError:
            if peer.link is not None:  # its session is over, and it would not notice
                peer.link.close()
            raise
        finally:
            self.expect(peer, reason)

    async def _restart_machine(self, peer: PeerRecord, reason: str) -> None:
        peer.going_down = True
        try:
            await self._restarter.restart(peer.name, reason)
        finally:
            peer.going_down = False

    async def _recover(self, peer: PeerRecord, reason: str) -> None:
        while True:
            on_fail = self._on_fail(peer.name)
            prescription = prescribe(on_fail, self._store.restarts(peer.name), self._clock.wall(), reason)
            if prescription.remedy is Remedy.NONE:
                return
            if prescription.remedy is Remedy.QUARANTINE:
                await self.quarantine(peer, f"{_cause(on_fail, reason)}; last failure: {reason}")
                return
            if not await self._can_be_restarted(peer):
                return
            self._store.add_restart(peer.name, self._clock.wall())
            self._registry.move(peer, Trigger.RESTART_BEGUN, reason)
            await self._recorder.record(PeerRemedied(peer.name, Remedy.RESTART, reason, prescription.left))
            if await self._restart_and_wait(peer):
                return
            reason = self._why_away(peer, "its restart")

    async def _can_be_restarted(self, peer: PeerRecord) -> bool:
        """Wait for who restarts machines: what nobody could do costs no budget, nor what an operator keeps off.

        False when the peer needs it no more.
        """
        while True:
            try:
                machines = await self._restarter.machines()
                return machines.get(peer.name, True) and peer.state in (PeerState.FAILED, *_AWAY)
            except GatewayError:
                await asyncio.sleep(ASK_AGAIN_S)

    async def _return_or_recover(self, peer: PeerRecord, after: str) -> None:
        if not await self._returned(peer):
            await self._recover(peer, self._why_away(peer, after))

    def _why_away(self, peer: PeerRecord, after: str) -> str:
        if peer.state is PeerState.FAILED:
            return peer.reason
        return f"did not come back trusted within {self._return_within_s:.0f} s after {after}"

    async def _restart_and_wait(self, peer: PeerRecord) -> bool:
        """Restart and wait for trust; True also when somebody else took the peer over."""
        try:
            await self._restart_machine(peer, peer.reason)
        except GatewayError as error:
            if error.code == KEPT_OFF:  # it comes back when the operator starts it, and has to attest then
                return True
            await asyncio.sleep(ASK_AGAIN_S)
            return False
        return await self._returned(peer)

    async def _returned(self, peer: PeerRecord) -> bool:
        since = self._clock.now()
        while self._clock.now() < max(since, peer.excused_at or since) + self._return_within_s:
            if peer.state not in _AWAY:
                return peer.state is not PeerState.FAILED
            if not self._knows(peer.name):
                return True  # whatever it proves, nobody could trust it
            await asyncio.sleep(0.05)
        return False


def _cause(on_fail: OnFail, reason: str) -> str:
    if on_fail.action != Remedy.RESTART:
        return "as its profile says"
    return "no restart mends it" if reason in PAST_RESTARTS else "restart budget used up"
