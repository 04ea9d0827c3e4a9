"""Hold together what netd's parts share: the kernel's table, the book, the policy in force."""

import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from filters.errors import NetdError
from filters.flow import FlowKey
from filters.netd.book import Book
from filters.netd.fingerprint import Fingerprint
from filters.netd.kernel import KernelTable
from filters.netd.protocol import NetdCode
from filters.netd.tally import Tally
from filters.policy.compiled import CompiledPolicy, KeyRange
from filters.ruleset.names import INSPECTED_BIT


def boottime() -> float:
    """Return CLOCK_BOOTTIME seconds, the clock of every `expires_at`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class State:
    """Our table and what it must hold.

    Whoever changes it changes the kernel first and the book after, so that a refusal leaves both alone.
    """

    interface: str
    kernel: KernelTable
    book: Book = field(default_factory=Book)
    policy: CompiledPolicy | None = None  # set by `enforce`
    pinned: frozenset[IPv4Address] = frozenset()
    incoming: CompiledPolicy | None = None  # being loaded right now
    baseline: Fingerprint = field(default_factory=dict)  # the table as we left it
    tally: Tally = field(default_factory=Tally)

    def enforce(self, policy: CompiledPolicy | None) -> None:
        """Note which policy the kernel has now."""
        self.policy = policy
        self.pinned = frozenset(pin.ip for pin in policy.pins) if policy else frozenset()

    def read_counters(self) -> None:
        """Take the kernel's drop counters; raises NetdError `kernel`."""
        self.tally.update(self.kernel.counters())

    def loaded(self) -> CompiledPolicy:
        """Return the policy in force; raises NetdError `no-policy`."""
        if self.policy is None:
            raise NetdError(NetdCode.NO_POLICY.value, "no policy is loaded")
        return self.policy

    def check_pinned(self, ip: IPv4Address) -> None:
        """Refuse an address the policy does not pin; raises NetdError `unknown-peer`."""
        self.loaded()
        if ip not in self.pinned:
            raise NetdError(NetdCode.UNKNOWN_PEER.value, f"the policy pins no peer to {ip}", ip=str(ip))

    def check_permitted(self, key: FlowKey) -> KeyRange:
        """Refuse a key that the policy, or the one being loaded, does not permit, or not in the same way: `not-permitted`."""
        found = self.loaded().permits(key)
        later = self.incoming.permits(key) if self.incoming else found
        if found is None or later is None:
            raise NetdError(NetdCode.NOT_PERMITTED.value, f"no rule permits {key}", key=str(key))
        if (found.inspected, found.offloads) != (later.inspected, later.offloads):
            message = (
                f"the policy that is being loaded inspects {key} otherwise: ask again once it is in force"
            )
            raise NetdError(NetdCode.NOT_PERMITTED.value, message, key=str(key))
        return found

    def check_inspected(self, lease_id: int, key: FlowKey) -> KeyRange:
        """Refuse a lease whose id says `inspected` where the policy does not, or the other way: `not-permitted`."""
        found = self.check_permitted(key)
        if found.inspected != bool(lease_id & INSPECTED_BIT):
            says = "is to be inspected" if found.inspected else "is not inspected"
            raise NetdError(
                NetdCode.NOT_PERMITTED.value,
                f"{key} {says}, lease {lease_id:#x} says otherwise",
                key=str(key),
            )
        return found

    def may_wait(self, key: FlowKey) -> bool:
        """Tell whether a first packet of this key may wait for its session."""
        found = self.policy.permits(key) if self.policy else None
        return found is not None and found.on_demand and self.book.holder(key, boottime()) is None
