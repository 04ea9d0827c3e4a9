"""Pin addresses to MACs with permanent neighbour entries (linux/neighbour.h)."""

import errno
import socket
import struct
from collections.abc import Iterable
from typing import Final

from filters.errors import NetdError
from filters.netd import netlink as nl
from filters.netd.netlink_socket import NETLINK_ROUTE, NetlinkSocket
from filters.policy.compiled import Pin

_NEW, _DEL = 28, 29  # RTM_NEWNEIGH, RTM_DELNEIGH
_DESTINATION, _ADDRESS = 1, 2  # NDA_*
_PERMANENT: Final = 0x80  # NUD_PERMANENT
_NDMSG: Final = struct.Struct("=BxxxiHBB")  # family, interface, state, flags, type


def neighbour_message(pin: Pin, interface: int, sequence: int, *, remove: bool = False) -> bytes:
    """Write the message that pins or unpins one address on an interface (by index)."""
    payload = _NDMSG.pack(socket.AF_INET, interface, _PERMANENT, 0, 0)
    payload += nl.attribute(_DESTINATION, pin.ip.packed)
    if not remove:
        payload += nl.attribute(_ADDRESS, bytes.fromhex(pin.mac.replace(":", "")))
    flags = nl.NLM_F_REQUEST | nl.NLM_F_ACK | (0 if remove else nl.NLM_F_CREATE | nl.NLM_F_REPLACE)
    return nl.message(_DEL if remove else _NEW, flags, sequence, payload)


def pin_neighbours(interface: str, pins: Iterable[Pin], removed: Iterable[Pin] = ()) -> None:
    """Set permanent neighbours and remove old ones; raises NetdError `kernel`."""
    try:
        index = socket.if_nametoindex(interface)
    except OSError as error:
        raise NetdError("kernel", f"no interface {interface}: {error}", errno=error.errno) from error
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        for pin in removed:
            sequence = netlink.sequence()
            raw = neighbour_message(pin, index, sequence, remove=True)
            try:
                netlink.execute(raw, sequence, f"unpin {pin.ip}")
            except NetdError as error:
                if error.params.get("errno") != errno.ENOENT:
                    raise
        for pin in pins:
            sequence = netlink.sequence()
            netlink.execute(neighbour_message(pin, index, sequence), sequence, f"pin {pin.ip}")
