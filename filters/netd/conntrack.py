"""Delete connections from the kernel's table, by lease id or all (linux/netfilter/nfnetlink_conntrack.h)."""

from collections.abc import Iterable
from typing import Final

from filters.errors import NetdError
from filters.netd import netlink as nl
from filters.netd.netlink_socket import NetlinkSocket

_DELETE: Final = 2  # IPCTNL_MSG_CT_DELETE
_MARK, _MARK_MASK = 8, 21  # CTA_*
_ENOENT: Final = 2


def delete_message(lease_id: int | None, sequence: int) -> bytes:
    """Write the message that deletes the connections with this mark, or all (None)."""
    payload = b""
    if lease_id is not None:
        payload = nl.u32(_MARK, lease_id) + nl.u32(_MARK_MASK, 0xFFFFFFFF)
    return nl.nf_message(nl.Subsystem.CTNETLINK, _DELETE, nl.NLM_F_ACK, sequence, payload)


def delete_connections(lease_ids: Iterable[int]) -> None:
    """Delete the connections of some leases. Each id walks the whole table once (13-28 ms per 20,000)."""
    with NetlinkSocket() as netlink:
        for lease_id in lease_ids:
            _delete(netlink, lease_id)


def flush_connections() -> None:
    """Delete all connections of this network namespace."""
    with NetlinkSocket() as netlink:
        _delete(netlink, None)


def _delete(netlink: NetlinkSocket, lease_id: int | None) -> None:
    sequence = netlink.sequence()
    try:
        netlink.execute(delete_message(lease_id, sequence), sequence, "delete connections")
    except NetdError as error:
        if error.params.get("errno") != _ENOENT:
            raise
