"""Tell who is at the other end of a unix socket (SO_PEERCRED, unix(7))."""

import socket
import struct
from typing import Final

_UCRED: Final = struct.Struct("=iII")  # pid, uid, gid


def caller_uid(connection: socket.socket) -> int:
    """Return the uid of whoever connected; raises OSError."""
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)
