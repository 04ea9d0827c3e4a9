"""Read trust, leases and authority back from the kernel, as it has them."""

from collections.abc import Mapping
from ipaddress import IPv4Address

from filters.flow import FlowKey
from filters.netd.elements import read_lease_key, read_mark
from filters.netd.kernel import read_set
from filters.netd.netlink_socket import NetlinkSocket
from filters.netd.nf_tables import KernelElement
from filters.netd.protocol import LeaseState, Snapshot
from filters.ruleset.names import DYNAMIC, MapName, SetName


def take_snapshot(holds: int) -> Snapshot:
    """Read the dynamic sets; raises NetdError `kernel` when there are none.

    Uses a socket of its own and may run in any thread: a hundred thousand leases take a second.
    """
    with NetlinkSocket() as netlink:
        read = {place: read_set(netlink, place, steady=False) for place in DYNAMIC}
    authority = [one.remaining_ms for one in read[SetName.AUTHORITY]]
    return Snapshot(
        trusted={IPv4Address(one.key): one.remaining_ms or 0 for one in read[SetName.TRUSTED]},
        quarantined=tuple(sorted(IPv4Address(one.key) for one in read[SetName.QUARANTINED])),
        authority_ms=authority[0] if authority else None,
        leases=_leases(read),
        holds=holds,
    )


def _leases(read: Mapping[SetName | MapName, list[KernelElement]]) -> tuple[LeaseState, ...]:
    keys: dict[int, FlowKey] = {}
    for place in MapName:
        for one in read[place]:
            keys[read_mark(one.data)] = read_lease_key(one.key)
    live = {read_mark(one.key): one.remaining_ms or 0 for one in read[SetName.LIVE]}
    return tuple(LeaseState(lease_id, keys.get(lease_id), ms) for lease_id, ms in sorted(live.items()))
