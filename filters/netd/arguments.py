"""Check a request's arguments: what comes in is untrusted until read here. Pure.

Every reader raises NetdError `malformed` with the argument's name.
"""

import math
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final

from filters.errors import NetdError, PolicyError
from filters.flow import FlowKey
from filters.netd.protocol import MAX_LEASE_ID, key_from_wire, malformed
from filters.policy.compiled import CompiledPolicy
from filters.ruleset.names import HANDED_BIT

MAX_TTL_MS: Final = 30 * 86_400_000
MAX_REVOKED: Final = 1 << 20


class Arguments:
    """The untrusted arguments of one request."""

    def __init__(self, untrusted: object) -> None:
        if not isinstance(untrusted, Mapping):
            raise malformed("args is an object")
        self._untrusted: Mapping[str, Any] = untrusted

    def ip(self) -> IPv4Address:
        """Read `ip`."""
        value = self._get("ip")
        try:
            return IPv4Address(value if isinstance(value, str) else "")
        except AddressValueError as error:
            raise _bad("ip", value) from error

    def flag(self, name: str) -> bool:
        """Read true or false."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise _bad(name, value)
        return value

    def time(self, name: str) -> float:
        """Read a finite, non-negative time in seconds."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _bad(name, value)
        if not (math.isfinite(value) and 0 <= value < 1e12):
            raise _bad(name, value)
        return float(value)

    def optional_time(self, name: str) -> float | None:
        """Read a time or null."""
        return None if self._get(name) is None else self.time(name)

    def lease_id(self) -> int:
        """Read a lease id; 0 means "no lease" in the kernel and is refused."""
        return _check_lease_id("lease_id", self._get("lease_id"))

    def lease_ids(self) -> list[int]:
        """Read a list of lease ids."""
        values = self._get("lease_ids")
        if not isinstance(values, list) or len(values) > MAX_REVOKED:
            raise _bad("lease_ids", type(values).__name__)
        return [_check_lease_id("lease_ids", value) for value in values]

    def ttl_ms(self) -> int:
        """Read a lease's time."""
        return self._whole("ttl_ms", 1, MAX_TTL_MS)

    def hold_id(self) -> int:
        """Read a hold's number."""
        return self._whole("hold_id", 1, 1 << 53)

    def key(self) -> FlowKey:
        """Read a flow key."""
        return key_from_wire(self._get("key"))

    def policy(self) -> CompiledPolicy:
        """Read a compiled policy."""
        untrusted = self._get("compiled")
        if not isinstance(untrusted, Mapping):
            raise _bad("compiled", type(untrusted).__name__)
        try:
            return CompiledPolicy.from_json(untrusted)
        except PolicyError as error:
            raise malformed(error.message) from error

    def _get(self, name: str) -> Any:
        if name not in self._untrusted:
            raise malformed(f"argument {name} is missing")
        return self._untrusted[name]

    def _whole(self, name: str, low: int, high: int) -> int:
        return _check_whole(name, self._get(name), low, high)


def _check_whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _bad(name, value)
    return value


def _check_lease_id(name: str, value: object) -> int:
    lease_id = _check_whole(name, value, 1, MAX_LEASE_ID)
    if lease_id & HANDED_BIT:  # in a connection's mark this says something else
        raise _bad(name, value)
    return lease_id


def _bad(name: str, value: object) -> NetdError:
    return malformed(f"argument {name} cannot be {str(value)[:100]!r}")
