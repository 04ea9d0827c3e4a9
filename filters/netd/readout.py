"""Read trust, leases and authority back from the kernel, as it has them."""

from ipaddress import IPv4Address

from filters.flow import FlowKey
from filters.netd.elements import read_lease_key, read_mark
from filters.netd.protocol import LeaseState, Snapshot
from filters.netd.state import State
from filters.ruleset.names import MapName, SetName


def take_snapshot(state: State, holds: int) -> Snapshot:
    """Read the dynamic sets; raises NetdError `no-policy` while there are none."""
    state.loaded()
    kernel = state.kernel
    authority = [one.remaining_ms for one in kernel.elements(SetName.AUTHORITY)]
    return Snapshot(
        trusted={IPv4Address(one.key): one.remaining_ms or 0 for one in kernel.elements(SetName.TRUSTED)},
        quarantined=tuple(sorted(IPv4Address(one.key) for one in kernel.elements(SetName.QUARANTINED))),
        authority_ms=authority[0] if authority else None,
        leases=_leases(state),
        holds=holds,
    )


def _leases(state: State) -> tuple[LeaseState, ...]:
    keys: dict[int, FlowKey] = {}
    for place in MapName:
        for one in state.kernel.elements(place):
            keys[read_mark(one.data)] = read_lease_key(one.key)
    live = {read_mark(one.key): one.remaining_ms or 0 for one in state.kernel.elements(SetName.LIVE)}
    return tuple(LeaseState(lease_id, keys.get(lease_id), ms) for lease_id, ms in sorted(live.items()))
