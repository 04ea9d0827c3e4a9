"""Keep the administrator's authority: grant, revoke, expiry; the kernel enforces it by itself."""

import asyncio
import math

from authn.signing import DocumentError, SignedDocument
from filters.policy.evaluator import AuthorityState
from filters.reason import DropReason
from gateway.audit.recorder import Recorder
from gateway.authority.gate import AuthorityGate, Moment
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.events.model import AuthorityChanged
from gateway.kernel import Kernel
from gateway.sessions.broker import SessionBroker
from gateway.store.store import Store, StoredAuthority

SEEN_EVERY_S = 10.0
LONG_AGO = 0.0


class AuthorityKeeper:
    """The gate, its durable form, and what hangs on it. `boot_id` names this boot of the machine."""

    def __init__(
        self,
        gate: AuthorityGate,
        store: Store,
        kernel: Kernel,
        recorder: Recorder,
        clock: Clock,
        broker: SessionBroker,
        boot_id: str,
    ) -> None:
        self.gate = gate
        self.gate.sequence = max(gate.sequence, store.authority().sequence)  # before anybody brings a grant
        self._store, self._kernel, self._recorder = store, kernel, recorder
        self._clock, self._broker, self._boot_id = clock, broker, boot_id
        self._was = AuthorityState.ABSENT
        self._seen, self._saved_at = 0.0, 0.0
        self._granting = asyncio.Lock()
        self._revocations = 0

    def state(self) -> AuthorityState:
        """Tell what holds now."""
        return self.gate.state(self._moment())

    async def start(self) -> None:
        """Put stored authority in force again after a restart; a clock that was set meanwhile prolongs nothing."""
        async with self._granting:
            await self._take_up(self._store.authority(), self._moment())

    async def _take_up(self, stored: StoredAuthority, now: Moment) -> None:
        self._seen = max(self._seen, stored.seen)
        if stored.not_after is None or self._revocations:
            return
        same_boot, ended = stored.boot_id == self._boot_id, stored.deadline < LONG_AGO
        self.gate.hold(stored.not_after, now, stored.deadline if same_boot else math.inf)
        # before this boot it was later than now: how long the machine was off nobody knows
        if ended or (not same_boot and now.wall < stored.seen):
            self.gate.expire()
        self._was = AuthorityState.EXPIRED if ended else AuthorityState.VALID
        await self._enforce()
        await self.watch()

    async def grant(self, untrusted_grant: bytes, actor: str) -> None:
        """Take up an administrator's grant; raises GatewayError with the failed check."""
        async with self._granting:
            grant, revocations = self._check(untrusted_grant), self._revocations
            await self._recorder.record(AuthorityChanged("granted", grant.version, grant.not_after, actor))
            if revocations != self._revocations:  # while it was being recorded; the later word holds
                self.gate.sequence = grant.version
                self._save()
                await self._recorder.record(AuthorityChanged("overtaken", grant.version, 0.0, actor))
                raise GatewayError("overtaken", "authority was revoked at the same time; grant it anew")
            self._seen = self._clock.wall()
            self.gate.accept(grant, self._moment())
            self._save()
            self._was = AuthorityState.VALID
            await self._enforce()

    def _check(self, untrusted_grant: bytes) -> SignedDocument:
        try:
            return self.gate.check(untrusted_grant, self._clock.wall())
        except DocumentError as error:
            raise GatewayError(error.code, f"the grant is refused: {error.message}") from error

    async def revoke(self, actor: str) -> None:
        """Withdraw authority: the kernel first. It overtakes also what is granted meanwhile."""
        self._revocations += 1
        self.gate.revoke()
        try:
            await self._kernel.authority(None)
            while self.gate.not_after is not None:
                # granted while the kernel was being told, which heard of that last
                self.gate.revoke()
                await self._kernel.authority(None)
        finally:  # also where the kernel refuses: nobody is granted anything any more, also after our next start
            self.gate.revoke()
            self._was = AuthorityState.ABSENT
            self._save()
            # before anything is waited for: what is granted from now on stands behind it on record
            self._recorder.note(AuthorityChanged("revoked", self.gate.sequence, 0.0, actor))
            try:
                await self._broker.close(list(self._broker.book), DropReason.COMMUNICATION_DISABLED)
            finally:
                await self._recorder.flush()

    async def watch(self) -> None:
        """Notice that a grant has run out by either clock (by the steady one the kernel has closed the gate)."""
        state = self.state()
        if state is AuthorityState.EXPIRED and self._was is AuthorityState.VALID:
            self._was = state
            # another may be granted while the kernel is being told
            ended = AuthorityChanged("expired", self.gate.sequence, self.gate.not_after or 0.0, "")
            self.gate.expire()
            await self._enforce()
            self._save()
            await self._broker.close(list(self._broker.book), DropReason.AUTHORITY_EXPIRED)
            await self._recorder.record(ended)
        elif state is AuthorityState.VALID and self._clock.now() > self._saved_at + SEEN_EVERY_S:
            self._save()

    async def _enforce(self) -> None:
        """Tell the kernel until when the grant holds."""
        await self._kernel.authority(max(self.gate.deadline, LONG_AGO))

    def _save(self) -> None:
        self._seen, self._saved_at = max(self._seen, self._clock.wall()), self._clock.now()
        gate = self.gate
        self._store.save_authority(
            StoredAuthority(gate.sequence, gate.not_after, gate.deadline, self._boot_id, self._seen)
        )

    def _moment(self) -> Moment:
        return Moment(self._clock.wall(), self._clock.now())
