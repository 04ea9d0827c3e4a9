"""Keep the administrator's authority: grant, revoke, expiry; the kernel enforces it by itself."""

from authn.signing import DocumentError
from filters.policy.evaluator import AuthorityState
from gateway.audit.recorder import Recorder
from gateway.authority.gate import AuthorityGate
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.events.model import AuthorityChanged
from gateway.kernel import Kernel
from gateway.sessions.broker import SessionBroker
from gateway.store.store import Store


class AuthorityKeeper:
    """The gate, its durable sequence, and what hangs on it."""

    def __init__(
        self,
        gate: AuthorityGate,
        store: Store,
        kernel: Kernel,
        recorder: Recorder,
        clock: Clock,
        broker: SessionBroker,
    ) -> None:
        self.gate = gate
        self._store, self._kernel, self._recorder = store, kernel, recorder
        self._clock, self._broker = clock, broker
        self._was = AuthorityState.ABSENT

    def state(self) -> AuthorityState:
        """Tell what holds now."""
        return self.gate.state(self._clock.wall())

    async def start(self) -> None:
        """Put stored authority in force again after a restart."""
        self.gate.sequence, self.gate.not_after = self._store.authority()
        self._was = self.state()
        if self.gate.not_after is not None:
            await self._kernel.authority(self._boottime(self.gate.not_after))

    async def grant(self, untrusted_grant: bytes, actor: str) -> None:
        """Take up an administrator's grant; raises GatewayError with the failed check."""
        try:
            grant = self.gate.check(untrusted_grant, self._clock.wall())
        except DocumentError as error:
            raise GatewayError(error.code, f"the grant is refused: {error.message}") from error
        await self._recorder.record(AuthorityChanged("granted", grant.version, grant.not_after, actor))
        self._store.save_authority(grant.version, grant.not_after)
        self.gate.accept(grant)
        self._was = AuthorityState.VALID
        await self._kernel.authority(self._boottime(grant.not_after))

    async def revoke(self, actor: str) -> None:
        """Withdraw authority: the kernel first."""
        await self._kernel.authority(None)
        self.gate.revoke()
        self._was = AuthorityState.ABSENT
        self._store.save_authority(self.gate.sequence, None)
        await self._broker.close(list(self._broker.book), "communication-disabled")
        await self._recorder.record(AuthorityChanged("revoked", self.gate.sequence, 0.0, actor))

    async def watch(self) -> None:
        """Notice that a grant has run out (the kernel has already closed the gate)."""
        state = self.state()
        if state is AuthorityState.EXPIRED and self._was is AuthorityState.VALID:
            self._was = state
            await self._broker.close(list(self._broker.book), "authority-expired")
            await self._recorder.record(
                AuthorityChanged("expired", self.gate.sequence, self.gate.not_after or 0.0, "")
            )

    def _boottime(self, wall: float) -> float:
        return self._clock.now() + wall - self._clock.wall()
