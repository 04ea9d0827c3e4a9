"""Keep trust: give it for a fresh verified quote, take it at the first failure, let it expire by itself."""

import secrets
from collections.abc import Awaitable, Callable

from authn.beacon import BeaconTracker
from authn.errors import AttestationError
from authn.evidence import Counters, VerifiedQuote
from authn.failure import NOT_THE_PEERS_FAULT, AttestationFailure
from authn.handshake import EstablishedSession
from authn.handshake_gateway import PeerFacts
from authn.messages import BeaconAnswer
from filters.reason import DropReason
from gateway.audit.recorder import Recorder
from gateway.clock import Clock
from gateway.control.link import PeerLink
from gateway.events.model import AttestationFailed, EnrollmentChanged
from gateway.kernel import Kernel
from gateway.registry.registry import PeerRecord, Registry
from gateway.registry.states import PeerState, Trigger
from gateway.sessions.ends import SessionEnd
from gateway.store.store import Store

PROOF_EVERY = 5
HIGH_WATER_EVERY_S = 10.0
# of one that was trusted: it may have gone amid the handshake by which it wanted to come back
_MISSED = (PeerState.STALE, PeerState.UNREACHABLE, PeerState.ENROLLED, PeerState.ATTESTING)
Cut = Callable[[PeerRecord, str], Awaitable[None]]
Failed = Callable[[PeerRecord, str], None]
QuoteAge = Callable[[str], float | None]


class TrustKeeper:
    """Decide about trust. `quote_age` says what the policy allows, `cut` ends a peer's sessions, `failed` starts its recovery."""

    def __init__(
        self,
        registry: Registry,
        kernel: Kernel,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        interval: float,
        quote_age: QuoteAge,
        cut: Cut,
        failed: Failed,
    ) -> None:
        self._registry, self._kernel, self._store = registry, kernel, store
        self._recorder, self._clock = recorder, clock
        self.interval = interval
        self.silence_limit = 25 * interval
        self._quote_age, self._cut, self._failed = quote_age, cut, failed
        self._saved: dict[str, float] = {}
        self._failing: set[str] = set()  # what they failed by is not marked yet
        self._attended = self._attentive_since = clock.now()

    def tracker(self, facts: PeerFacts, session: EstablishedSession) -> BeaconTracker:
        """Make the beacon tracker of a session."""
        return BeaconTracker(
            facts.key,
            facts.profile.selection,
            session.pcr_values,
            session.verified.counters,
            session.epoch,
            session.exporter,
            self.interval,
            PROOF_EVERY,
            secrets.token_bytes,
            session.files,
            facts.check,
        )

    async def admit(self, peer: PeerRecord, link: PeerLink, proved_at: float) -> None:
        """Trust a peer whose full handshake has just been verified; replaces its earlier session.

        Raises AttestationError when the peer failed meanwhile, by its earlier session.
        """
        if peer.link is not None:
            peer.link.close()
        await self._cut(peer, SessionEnd.REPLACED)  # also what was granted while an earlier session ended
        verified: VerifiedQuote = link.session.verified
        self.check_reboot(peer, verified.counters)  # once more: everything awaited since takes time
        self._store.raise_high_water(peer.name, verified.counters)
        peer.link, peer.session_id = link, link.session.session_id
        peer.pcr_values, peer.silent_since = dict(link.session.pcr_values), None
        peer.last_quote_at, peer.counters = proved_at, verified.counters
        try:
            await self._kernel.trust(peer.ip, proved_at + self._worth(peer))
        except BaseException:  # also when the handshake's time is over: nobody serves that link
            self._let_go(peer, link)
            raise
        if peer.link is not link:  # it failed after that, and the kernel was told so after that
            raise AttestationError(
                AttestationFailure.UNKNOWN_PEER, f"{peer.name} was cut while it was being admitted"
            )
        self._registry.move(peer, Trigger.VERIFIED)

    def check_reboot(self, peer: PeerRecord, counters: Counters) -> None:
        """Refuse a peer that is kept out or nobody, or failed and has not been restarted since; raises AttestationError."""
        if peer.state is PeerState.QUARANTINED:
            raise AttestationError(AttestationFailure.UNKNOWN_PEER, f"{peer.name} is quarantined")
        if peer.state is PeerState.UNKNOWN:
            raise AttestationError(AttestationFailure.UNKNOWN_PEER, f"{peer.name} was forgotten meanwhile")
        if peer.name in self._failing:
            raise AttestationError(AttestationFailure.UNKNOWN_PEER, f"{peer.name} has just failed")
        high_water = self._store.high_water(peer.name)
        failed_at = high_water.failed_at_reset if high_water else None
        if failed_at is not None and counters.reset_count <= failed_at:
            raise AttestationError(
                AttestationFailure.RESET_COUNT_REGRESSION,
                f"{peer.name} failed and has not been restarted since",
                expected=f"> {failed_at}",
                got=counters.reset_count,
            )

    async def answer(self, peer: PeerRecord, link: PeerLink, answer: BeaconAnswer) -> None:
        """Judge a beacon answer: renew trust, ignore it, or fail the peer."""
        if (
            peer.link is not link or peer.going_down
        ):  # its former life's, for which it has paid, or is just paying
            return
        try:
            passed = link.tracker.judge(answer, self._clock.now())
        except AttestationError as error:
            await self.fail(peer, error)
            return
        if passed is None or not self._stands(peer, link):
            return
        await self._kernel.trust(peer.ip, passed.asked_at + self._worth(peer))
        if not self._stands(peer, link):  # the kernel was told so after that
            return
        peer.last_quote_at, peer.counters, peer.silent_since = self._clock.now(), passed.counters, None
        if peer.state is PeerState.STALE:
            self._registry.move(peer, Trigger.ANSWERED)
        if self._clock.now() - self._saved.get(peer.name, 0.0) > HIGH_WATER_EVERY_S:
            self._saved[peer.name] = self._clock.now()
            self._store.raise_high_water(peer.name, passed.counters)

    async def fail(self, peer: PeerRecord, error: AttestationError, reset_count: int | None = None) -> None:
        """Cut a peer that failed; recovery follows when it can be held against the peer. Withdrawing waits for nothing.

        One that was forgotten amid its handshake is nobody who could be blamed.
        `reset_count` is the one that its key signed, where that is not the session's.
        """
        reason = error.failure.value
        blamed = error.failure not in NOT_THE_PEERS_FAULT and peer.state is not PeerState.UNKNOWN
        punished = blamed and peer.state is not PeerState.QUARANTINED
        # at once: nothing is granted to it while the kernel is being told
        if punished:
            self._registry.move(peer, Trigger.FAILED, reason, error.message)
        elif not blamed and peer.state in (PeerState.TRUSTED, PeerState.STALE):
            self._registry.move(peer, Trigger.DISCONNECTED, reason, error.message)
        self._hang_up(peer)  # a session that is admitted from here on is another one
        if blamed:
            self._failing.add(peer.name)
        try:
            await self._kernel.distrust(peer.ip)
            if blamed and peer.state is not PeerState.UNKNOWN:  # it may have been forgotten meanwhile
                self._store.mark_failed(peer.name, reset_count)
        finally:  # also with a store that failed: that ends the service soon
            self._failing.discard(peer.name)
            await self._cut(peer, reason)
            self._recorder.note(AttestationFailed(peer.name, str(peer.ip), reason, error.message, blamed))
            # it may have come back, restarted, meanwhile, or have been forgotten
            if punished and peer.state not in (PeerState.TRUSTED, PeerState.UNKNOWN):
                self._failed(peer, reason)

    def block(self, peer: PeerRecord, reset_count: int | None) -> None:
        """Note what one that has failed already signed wrong once more: it is out until it was restarted after that."""
        self._store.mark_failed(peer.name, reset_count)

    async def demand_anew(self, peer: PeerRecord) -> None:
        """End the session of a peer that proved what is no longer enough; it may prove itself again at once."""
        if peer.state in (PeerState.TRUSTED, PeerState.STALE):
            detail = "the policy demands something else of it now"
            self._registry.move(peer, Trigger.DISCONNECTED, SessionEnd.POLICY_CHANGED, detail)
        self._hang_up(peer)  # before anything is awaited, as in `fail`
        peer.silent_since = self._clock.now()
        await self._kernel.distrust(peer.ip)
        await self._cut(peer, SessionEnd.POLICY_CHANGED)

    async def forget(self, peer: PeerRecord, actor: str) -> None:
        """Unpin a peer at an administrator's word: it is nobody until a TPM is enrolled at its place. Raises GatewayError."""
        fingerprint = self._store.forget(peer.name)
        self._registry.move(peer, Trigger.FORGOTTEN, "forgotten", f"by {actor}")
        self._hang_up(peer)
        peer.counters, peer.last_quote_at, peer.session_id, peer.pcr_values = None, None, "", {}
        try:
            await self._kernel.distrust(peer.ip)
            await self._cut(peer, DropReason.ADMIN_CUT)
        finally:  # also where the kernel refuses: it is forgotten already
            forgotten = EnrollmentChanged(peer.name, str(peer.ip), "forgotten", fingerprint, f"by {actor}")
            await self._recorder.record(forgotten)

    async def disconnected(self, peer: PeerRecord, link: PeerLink) -> None:
        """Note that a peer hung up: it loses its leases, and is unreachable, not failed."""
        link.close()
        if peer.link is not link:
            return
        peer.link = None
        if peer.state in (PeerState.TRUSTED, PeerState.STALE):
            peer.silent_since = peer.silent_since or self._clock.now()
            self._registry.move(peer, Trigger.DISCONNECTED, "disconnected", "the agent's connection ended")
        await self._kernel.distrust(peer.ip)
        await self._cut(peer, SessionEnd.PEER_DISCONNECTED)

    def excuse(self, peer: PeerRecord) -> None:
        """Hold no silence against a peer that the policy does not know: it counts once it is known again."""
        if peer.silent_since is not None:
            peer.silent_since = self._clock.now()

    def attend(self, tpm_waits: float = 0.0) -> None:
        """Note that we are awake. While we were stopped ourselves, or our TPM did not answer, nobody's silence was his own fault.

        Without the TPM nobody can be asked. `tpm_waits`: for how long it has owed an answer.
        """
        now = self._clock.now()
        if max(now - self._attended, tpm_waits) > 2 * self.interval:
            self._attentive_since = now
        self._attended = now

    async def watch_silence(self, peer: PeerRecord) -> None:
        """Notice a peer whose permission has run out in the kernel, and one that is silent past the limit."""
        now = self._clock.now()
        if peer.state is PeerState.TRUSTED and now > (peer.last_quote_at or 0.0) + self._worth(peer):
            peer.silent_since = peer.last_quote_at
            late = peer.link is not None and peer.link.tracker.late
            reason = AttestationFailure.LATE_ANSWER if late else AttestationFailure.NO_ANSWER
            self._registry.move(peer, Trigger.WENT_SILENT, reason.value, "no beacon was answered in time")
            await self._kernel.distrust(peer.ip)
            await self._cut(peer, DropReason.LEASE_EXPIRED)
        since = peer.silent_since
        if since is None or peer.state not in _MISSED:
            return
        if now > max(since, self._attentive_since, peer.excused_at or since) + self.silence_limit:
            limit = f"nothing was heard for more than {self.silence_limit:.1f} s"
            await self.fail(peer, AttestationError(AttestationFailure.NO_ANSWER, limit))

    def _worth(self, peer: PeerRecord) -> float:
        """Return for how many seconds a quote of this peer is worth trust."""
        age = self._quote_age(peer.name)
        return 2 * self.interval if age is None else min(age, 2 * self.interval)

    @staticmethod
    def _stands(peer: PeerRecord, link: PeerLink) -> bool:
        """Tell whether this is still the session that a peer is trusted by."""
        return peer.link is link and peer.state in (PeerState.TRUSTED, PeerState.STALE)

    @staticmethod
    def _let_go(peer: PeerRecord, link: PeerLink) -> None:
        if peer.link is link:
            peer.link = None

    def _hang_up(self, peer: PeerRecord) -> None:
        if peer.link is not None:
            peer.link.close()
        peer.link, peer.silent_since = None, None
