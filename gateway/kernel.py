"""What the service needs of netd: the kernel's permission for peers and flows."""

from ipaddress import IPv4Address
from typing import Protocol

from filters.flow import FlowKey
from filters.policy.compiled import CompiledPolicy


class Kernel(Protocol):
    """The verbs of netd that the service uses; each raises NetdError. Times are CLOCK_BOOTTIME seconds."""

    async def load_policy(self, policy: CompiledPolicy) -> tuple[int, ...]:
        """Put a policy in force; return the ids of leases it no longer permits, which are gone."""

    async def trust(self, ip: IPv4Address, expires_at: float) -> None:
        """Let a peer communicate until then."""

    async def distrust(self, ip: IPv4Address) -> None:
        """Cut a peer now."""

    async def quarantine(self, ip: IPv4Address, on: bool) -> None:
        """Cut a peer now, and drop its packets for that reason, or let it be trusted again."""

    async def grant(self, lease_id: int, key: FlowKey, ttl_ms: int) -> None:
        """Put a lease in force."""

    async def renew(self, lease_id: int, ttl_ms: int) -> None:
        """Extend a lease that is in force."""

    async def revoke(self, lease_ids: list[int]) -> None:
        """Withdraw leases."""

    async def authority(self, expires_at: float | None) -> None:
        """Permit communication until then; None: forbid it."""
