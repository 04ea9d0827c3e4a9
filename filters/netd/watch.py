"""Notice when somebody else changes packet filtering in this namespace, and put our table back."""

from collections.abc import Callable

from filters.errors import NetdError
from filters.netd import nf_tables as nft
from filters.netd.drift import dynamic_differences
from filters.netd.fingerprint import differences, shorten
from filters.netd.leases import Leases
from filters.netd.policies import Policies
from filters.netd.protocol import Drift
from filters.netd.state import State, boottime
from filters.ruleset.names import DYNAMIC, TABLE


class Watch:
    """Compare the kernel's generation with our own count; only when they differ, read back and compare."""

    def __init__(
        self, state: State, leases: Leases, policies: Policies, emit: Callable[[Drift], None]
    ) -> None:
        self._state, self._leases, self._policies, self._emit = state, leases, policies, emit
        self._known_tables: frozenset[tuple[int, str]] = frozenset()  # those that the client was told of
        self._failure = ""

    def check(self) -> bool:
        """Look once; returns True when something was repaired. Does nothing while a policy is loading."""
        kernel = self._state.kernel
        self._report_disturbance()
        if self._policies.busy or (generation := kernel.generation()) == kernel.expected:
            return False
        words = self.differences()
        foreign = self.report_foreign_tables()
        if words:
            return self._repair(shorten(words), generation)
        kernel.expected = generation
        if not foreign:
            self._emit(Drift("something was changed and is as before, or not ours", repaired=True))
        return False

    def _report_disturbance(self) -> None:
        words = self._policies.take_disturbance()
        if words is not None:
            self.report_foreign_tables()
            what = shorten(words) or "something was changed"
            self._emit(Drift(f"while a policy was being loaded: {what}", repaired=True))

    def _repair(self, detail: str, generation: int) -> bool:
        expected, self._state.kernel.expected = self._state.kernel.expected, generation
        try:
            self._policies.restore()
        except NetdError as error:
            self._state.kernel.expected = expected  # so that the next look tries again
            failure = f"{detail}: {error.message}"
            if failure != self._failure:
                self._emit(Drift(failure, repaired=False))
            self._failure = failure
            return False
        self._failure = ""
        self._emit(Drift(detail, repaired=True))
        return True

    def differences(self) -> list[str]:
        """Read the whole table back and name what is not as we left it."""
        state = self._state
        words = differences(state.baseline, state.kernel.fingerprint())
        if words or state.policy is None:
            return words
        self._leases.prune(boottime())
        kernel = {place: state.kernel.elements(place) for place in DYNAMIC}
        return dynamic_differences(kernel, state.book.all_elements(state.interface, boottime()))

    def forget_foreign_tables(self) -> None:
        """Tell the next client of those that are there: it was not here when they came."""
        self._known_tables = frozenset()

    def report_foreign_tables(self) -> bool:
        """Tell of tables that nobody told of; returns True when there are some."""
        # nobody else's rules are touched: they can drop our packets, and mark them
        tables = self._state.kernel.tables()
        foreign = {table for table in tables - self._known_tables if table != (nft.NFPROTO_INET, TABLE)}
        for family, name in sorted(foreign):
            self._emit(Drift(f"foreign table {name} (family {family})", repaired=False))
        self._known_tables = tables
        return bool(foreign)
