"""Remember what the dynamic sets must hold: trust, quarantine, authority, leases. Pure.

Times are CLOCK_BOOTTIME seconds and passed in. The kernel expires elements by itself; this book answers
which lease an id is, what a new policy takes away, and what to put back when somebody removed the table.
"""

import heapq
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from filters.errors import NetdError
from filters.flow import FlowKey
from filters.netd import elements
from filters.netd.elements import Element
from filters.netd.protocol import NetdCode
from filters.policy.compiled import CompiledPolicy
from filters.ruleset.names import INSPECTED_BIT


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease in force until `expires_at`."""

    lease_id: int
    key: FlowKey
    expires_at: float
    offloads: str = ""  # how its connections are inspected, where they may be handed over: see KeyRange


@dataclass(slots=True)
class Book:
    """What was asked for and has not run out."""

    trusted: dict[IPv4Address, float] = field(default_factory=dict)
    quarantined: set[IPv4Address] = field(default_factory=set)
    authority_until: float | None = None
    leases: dict[int, Lease] = field(default_factory=dict)
    by_key: dict[FlowKey, int] = field(default_factory=dict)  # the newest grant of a key decides
    _expiries: list[tuple[float, int]] = field(default_factory=list)

    def check_free(self, lease_id: int) -> None:
        """Refuse an id that is in force; raises NetdError `lease-id-in-use`."""
        if lease_id in self.leases:
            raise NetdError(
                NetdCode.LEASE_ID_IN_USE.value, f"lease {lease_id} is in force", lease_id=lease_id
            )

    def get(self, lease_id: int, now: float) -> Lease:
        """Return a lease in force; raises NetdError `no-such-lease`."""
        lease = self.leases.get(lease_id)
        if lease is None or lease.expires_at <= now:
            raise NetdError(NetdCode.NO_SUCH_LEASE.value, f"no lease {lease_id}", lease_id=lease_id)
        return lease

    def put(self, lease: Lease) -> None:
        """Write a lease in: a new one decides for its key from now on, a renewed one keeps its place."""
        if lease.lease_id not in self.leases:
            self.by_key[lease.key] = lease.lease_id
        self.leases[lease.lease_id] = lease
        heapq.heappush(self._expiries, (lease.expires_at, lease.lease_id))

    def strike(self, lease_id: int) -> None:
        """Strike a lease out."""
        lease = self.leases.pop(lease_id, None)
        if lease is not None and self.by_key.get(lease.key) == lease_id:
            del self.by_key[lease.key]

    def prune(self, now: float) -> list[int]:
        """Forget what has run out; returns the ids of the leases, whose connections are still known."""
        gone = []
        while self._expiries and self._expiries[0][0] <= now:
            _, lease_id = heapq.heappop(self._expiries)
            lease = self.leases.get(lease_id)
            if lease is not None and lease.expires_at <= now:
                self.strike(lease_id)
                gone.append(lease_id)
        for ip in [ip for ip, until in self.trusted.items() if until <= now]:
            del self.trusted[ip]
        return gone

    def holder(self, key: FlowKey, now: float) -> Lease | None:
        """Return the lease that new connections of this key get, if one is in force."""
        lease = self.leases.get(self.by_key.get(key, 0))
        return lease if lease is not None and lease.expires_at > now else None

    def newest(self, lease: Lease) -> bool:
        """Tell whether the map leads from this lease's key to this lease."""
        return self.by_key.get(lease.key) == lease.lease_id

    def unpermitted(self, policy: CompiledPolicy) -> list[Lease]:
        """Return the leases a policy does not permit, or not as they are: inspected or not, or handed over after another inspection."""
        return [lease for lease in self.leases.values() if not _permits(policy, lease)]

    def unpinned(self, policy: CompiledPolicy) -> list[IPv4Address]:
        """Return trusted addresses that a policy no longer pins."""
        pinned = {pin.ip for pin in policy.pins}
        return [ip for ip in self.trusted if ip not in pinned]

    def lease_elements(self, lease: Lease, now: float) -> list[Element]:
        """Build a lease's elements with the time it has left."""
        left = remaining_ms(lease.expires_at, now)
        live = elements.live(lease.lease_id, left)
        return [elements.lease(lease.key, lease.lease_id, left), live] if self.newest(lease) else [live]

    def all_elements(self, interface: str, now: float) -> list[Element]:
        """Build every element that must be in the dynamic sets now."""
        found = [
            elements.trusted(ip, remaining_ms(until, now))
            for ip, until in self.trusted.items()
            if until > now
        ]
        found += [elements.quarantined(ip) for ip in sorted(self.quarantined)]
        if self.authority_until is not None:
            found.append(elements.authority_had(interface))
            if self.authority_until > now:
                found.append(elements.authority(interface, remaining_ms(self.authority_until, now)))
        for lease in self.leases.values():
            if lease.expires_at > now:
                found += self.lease_elements(lease, now)
        return found

    def forget_trust(self) -> None:
        """Forget trust, authority and leases; quarantine stays, it only forbids."""
        self.trusted.clear()
        self.leases.clear()
        self.by_key.clear()
        self._expiries.clear()
        self.authority_until = None


def _permits(policy: CompiledPolicy, lease: Lease) -> bool:
    found = policy.permits(lease.key)
    return (
        found is not None
        and found.inspected == bool(lease.lease_id & INSPECTED_BIT)
        and found.offloads == lease.offloads
    )


def remaining_ms(until: float, now: float) -> int:
    """Return whole milliseconds left, rounded down, at least 1: 0 would mean "never expires"."""
    return max(1, int((until - now) * 1000))
