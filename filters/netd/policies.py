"""Put policies in force, close everything, and put the table back as it should be."""

import asyncio
import contextlib
from typing import Final

from filters.errors import NetdError
from filters.netd import elements, neighbours, peers
from filters.netd.conntrack import flush_connections
from filters.netd.diversion import divert_marked
from filters.netd.element_text import add_text, remove_text
from filters.netd.fingerprint import Fingerprint, differences
from filters.netd.leases import Leases
from filters.netd.nf_tables import Flush
from filters.netd.nftables_adapter import CLOSED_RULESET
from filters.netd.protocol import NetdCode
from filters.netd.state import State, boottime
from filters.policy.compiled import CompiledPolicy
from filters.ruleset.compiler import compile_policy_update, compile_ruleset
from filters.ruleset.names import MapName, SetName

_FLUSHED: Final = (SetName.TRUSTED, SetName.AUTHORITY, SetName.AUTHORITY_HAD, SetName.LIVE, *MapName)
_SETTLE_TRIES: Final = 3


class Policies:
    """Load one policy at a time; `busy` while one is being loaded."""

    def __init__(self, state: State, leases: Leases) -> None:
        self._state, self._leases = state, leases
        self._lock = asyncio.Lock()
        self._disturbance: list[str] | None = None

    @property
    def busy(self) -> bool:
        """Tell whether a transaction of ours is under way in another thread."""
        return self._lock.locked()

    def take_disturbance(self) -> list[str] | None:
        """Return, once, what a stranger had changed during a transaction of ours; it is undone. None: nothing."""
        words, self._disturbance = self._disturbance, None
        return words

    def close_all(self) -> None:
        """Replace the table by one that lets nothing pass, and forget all connections."""
        self._state.enforce(None)
        self._state.book.forget_trust()
        self._replace(CLOSED_RULESET)
        flush_connections()  # their marks may be ids of an earlier client
        self._settle()

    def restore(self) -> None:
        """Replace the table by what it should be, with all trust and leases in force, in one transaction."""
        state = self._state
        if state.policy is None:
            self._replace(CLOSED_RULESET)
            return
        self._replace(self._full_text(state.policy))
        self._open_queues()

    def forget_client(self) -> None:
        """Take back trust, authority and leases, and forget all connections; quarantine stays."""
        if self._state.policy is not None:
            try:
                self._state.kernel.apply_idle([Flush(place) for place in _FLUSHED])
            except NetdError:  # our sets are not there: somebody changed the table
                self.close_all()
        self._state.book.forget_trust()
        flush_connections()

    async def load(self, policy: CompiledPolicy) -> tuple[int, ...]:
        """Put a policy in force in one transaction; returns the ids of leases it no longer permits.

        Raises NetdError `malformed` for another interface, `kernel` when refused: then nothing changed.
        """
        state = self._state
        if policy.interface != state.interface:
            message = f"netd serves {state.interface}, the policy is for {policy.interface}"
            raise NetdError(NetdCode.MALFORMED.value, message)
        if any(key.inspected for key in policy.allowed):
            divert_marked()  # not before it is needed: every packet's route takes longer then
        async with self._lock:
            state.incoming = policy
            try:
                removed = await self._switch(policy)
            finally:
                state.incoming = None
            old = state.policy.pins if state.policy else ()
            state.enforce(policy)
            # nothing awaits between the switch and here: what was granted meanwhile had to suit both policies
            self._leases.forget(removed)  # before the table may be put back, and what the book has with it
            self._settle()
        neighbours.pin_neighbours(state.interface, policy.pins, set(old) - set(policy.pins))
        return removed

    async def check(self, policy: CompiledPolicy) -> None:
        """Ask the kernel whether it would take this policy; raises NetdError `kernel`. Changes nothing."""
        text = await asyncio.to_thread(compile_ruleset, policy, self._state.kernel.features)
        await self._state.kernel.check_beside(text)

    async def _switch(self, policy: CompiledPolicy) -> tuple[int, ...]:
        state = self._state
        if state.policy is None:
            await state.kernel.run_beside(self._full_text(policy))
            self._open_queues()
            return ()
        text = await asyncio.to_thread(compile_policy_update, policy, state.kernel.features)
        now = boottime()
        self._leases.prune(now)
        lost = state.book.unpermitted(policy)
        gone = [one for lease in lost for one in state.book.lease_elements(lease, now)]
        gone += [elements.trusted(ip, 1000) for ip in state.book.unpinned(policy)]
        await state.kernel.run_beside(remove_text(gone) + text)
        for ip in state.book.unpinned(policy):
            peers.distrust(state, ip)
        return tuple(sorted(lease.lease_id for lease in lost))

    def _replace(self, text: str) -> None:
        """Run a text that replaces the table; what the former one counted still counts."""
        if self._state.baseline:  # else it is one that another netd left, and so is what it counted
            with contextlib.suppress(NetdError):  # whoever changed it may have made it unreadable
                self._state.read_counters()
        self._state.kernel.run(text)
        self._state.tally.begin_anew()

    def _full_text(self, policy: CompiledPolicy) -> str:
        current = self._state.book.all_elements(self._state.interface, boottime())
        return compile_ruleset(policy, self._state.kernel.features) + add_text(current)

    def _open_queues(self) -> None:
        if not self._state.kernel.features.native_queue:
            self._state.kernel.insert_queue_rules()

    def _settle(self) -> None:
        """Note how the table looks now; whatever a stranger did meanwhile is undone first."""
        kernel = self._state.kernel
        disturbed: Fingerprint | None = None
        for _ in range(_SETTLE_TRIES):
            self._state.baseline = found = kernel.fingerprint()
            if kernel.generation() == kernel.expected:
                self._disturbance = None if disturbed is None else differences(found, disturbed)
                return
            disturbed = found if disturbed is None else disturbed
            kernel.expected = kernel.generation()
            self.restore()
        raise NetdError(NetdCode.KERNEL.value, "somebody else keeps changing the ruleset")
