"""Hear of every change of packet filtering in this namespace at once (NFNLGRP_NFTABLES).

Announcements are a wake-up call, not evidence: who hears one compares the kernel's generation with its own.
One that is lost is made good by the next look.
"""

import contextlib
import ctypes
import socket
import struct
from typing import Final

from filters.netd.netlink import Subsystem
from filters.netd.netlink_socket import SOL_NETLINK, NetlinkSocket

_ADD_MEMBERSHIP: Final = 1  # NETLINK_ADD_MEMBERSHIP
_GROUP: Final = 7  # NFNLGRP_NFTABLES
_NEWGEN: Final = Subsystem.NFTABLES << 8 | 15  # NFT_MSG_NEWGEN: the last announcement of each commit
_SO_ATTACH_FILTER: Final = 26
_TYPE_OFFSET: Final = 4  # struct nlmsghdr
_SMALL: Final = 1 << 16
_BURST: Final = 64

# Classic BPF (linux/filter.h; code, jt, jf, k): a policy of 100,000 elements announces each of them, we want one word.
_LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x28, 0x15, 0x06
_PROGRAM: Final = (
    (_LOAD_HALF, 0, 0, _TYPE_OFFSET),
    (_JUMP_EQUAL, 0, 1, socket.htons(_NEWGEN)),
    (_RETURN, 0, 0, 0xFFFF),
    (_RETURN, 0, 0, 0),
)


class Announcements:
    """A socket that becomes readable whenever somebody, we included, has changed the ruleset."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(buffer=_SMALL)
        raw = b"".join(struct.pack("=HBBI", *step) for step in _PROGRAM)
        program = ctypes.create_string_buffer(raw, len(raw))
        header = struct.pack("@HP", len(_PROGRAM), ctypes.addressof(program))
        self._netlink.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
        self._netlink.socket.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._netlink.socket.fileno()

    def close(self) -> None:
        """Hear nothing any more."""
        self._netlink.close()

    def drain(self) -> None:
        """Forget what has been announced so far, at most one burst; an overflow is one announcement more."""
        with contextlib.suppress(OSError):
            for _ in range(_BURST):
                self._netlink.socket.recv(_SMALL)
