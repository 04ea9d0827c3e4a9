"""Look into a TCP socket and take its place in the sequence numbers (linux/tcp.h, the only user of TCP_REPAIR)."""

import array
import ctypes
import errno
import fcntl
import socket
import struct
import termios
from dataclasses import dataclass
from typing import Final

from filters.netd.verdicts import UNDER_WAY

RESETS: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, unsent bytes are dropped
_REPAIR, _REPAIR_QUEUE, _QUEUE_SEQUENCE = 19, 20, 21  # TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ
_REPAIR_OFF_SILENTLY: Final = -1  # TCP_REPAIR_OFF_NO_WP
_RECEIVED, _SENT = 1, 2  # TCP_RECV_QUEUE, TCP_SEND_QUEUE
_ATTACH_FILTER, _DETACH_FILTER = 26, 27
# BPF (linux/filter.h), offsets from TCP's header (RFC 9293 section 3.1)
_INSTRUCTION: Final = struct.Struct("=HBBI")
_TAKE_NOTHING: Final = ((0x06, 0, 0, 0),)  # ret 0
# What carries no byte, opens and ends nothing is taken.
_TAKE_NO_BYTES: Final = (
    (0x30, 0, 0, 13),  # ldb flags
    (0x45, 6, 0, 0x03),  # jset FIN or SYN: drop
    (0x30, 0, 0, 12),  # ldb data offset
    (0x54, 0, 0, 0xF0),  # and
    (0x74, 0, 0, 2),  # rsh: bytes of the header
    (0x07, 0, 0, 0),  # tax
    (0x80, 0, 0, 0),  # ld length
    (0x1D, 1, 0, 0),  # jeq x: nothing behind the header
    (0x06, 0, 0, 0),  # ret 0
    (0x06, 0, 0, 0xFFFF_FFFF),  # ret all of it
)
_INFO: Final = struct.Struct("=8B20I")  # struct tcp_info up to tcpi_advmss
_ESTABLISHED: Final = 1
_TIMESTAMPS: Final = 0x01  # TCPI_OPT_TIMESTAMPS


@dataclass(frozen=True, slots=True)
class Connection:
    """What one leg agreed on with its peer, and whether anything is under way.

    options: TCPI_OPT_*. window_shifts: of the windows that the peer tells, and of ours. segment: the most the peer takes
    at once, and the most we said that we take.
    """

    state: int
    options: int
    window_shifts: tuple[int, int]
    segment: tuple[int, int]
    waiting: int  # bytes not read, not sent or not acknowledged


@dataclass(frozen=True, slots=True)
class Place:
    """The next byte that is expected from the peer, and the next one that is sent to it."""

    received: int
    sent: int


def read_connection(sock: socket.socket) -> Connection:
    """Read a socket's state; raises OSError for what is no TCP socket."""
    fields = _INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
    shifts, segment, said = fields[6], fields[10], fields[27]
    return Connection(
        fields[0],
        fields[5],
        (shifts & 0xF, shifts >> 4),
        (segment, said),
        _count(sock, termios.FIONREAD) + _count(sock, termios.TIOCOUTQ),
    )


def why_apart(near: Connection, far: Connection, *, under_way: bool = False) -> str | None:
    """Say why two connections can't be one, or None. Pure.

    under_way: bytes may be. What each end was told by us must be what the other end says: nobody is there any more to translate it.
    """
    if (near.state, far.state) != (_ESTABLISHED, _ESTABLISHED):
        return "a side has ended"
    if not under_way and (near.waiting or far.waiting):
        return UNDER_WAY[1:].decode()
    if (near.options | far.options) & _TIMESTAMPS:
        return "a side has timestamps of its own"
    if near.options != far.options:
        return "the sides agreed on other options"
    if near.window_shifts != far.window_shifts[::-1]:
        return "the sides count windows otherwise"
    if near.segment[0] < far.segment[1] or far.segment[0] < near.segment[1]:
        return "a side takes smaller segments"
    return None


def hush(sock: socket.socket) -> None:
    """Let the socket take no new bytes, until the filter is detached again; what its peer acknowledges, it hears."""
    _attach(sock, _TAKE_NO_BYTES)


def unhush(sock: socket.socket) -> None:
    """Let a hushed socket take bytes again; needs no rights. Raises OSError."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def silence(sock: socket.socket) -> None:
    """Let the socket take no packet any more, and send none: it stands still and closes without a word."""
    _attach(sock, _TAKE_NOTHING)
    sock.setsockopt(socket.IPPROTO_TCP, _REPAIR, 1)


def wake(sock: socket.socket) -> None:
    """Let a silenced socket go on."""
    sock.setsockopt(socket.IPPROTO_TCP, _REPAIR, _REPAIR_OFF_SILENTLY)
    unhush(sock)


def read_place(sock: socket.socket) -> Place:
    """Read the sequence numbers of a silenced socket."""
    found = []
    for queue in (_RECEIVED, _SENT):
        sock.setsockopt(socket.IPPROTO_TCP, _REPAIR_QUEUE, queue)
        found.append(sock.getsockopt(socket.IPPROTO_TCP, _QUEUE_SEQUENCE) % (1 << 32))
    return Place(*found)


def _attach(sock: socket.socket, instructions: tuple[tuple[int, int, int, int], ...]) -> None:
    program = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*one) for one in instructions))
    said = struct.pack("@HP", len(instructions), ctypes.addressof(program))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, said)


def _count(sock: socket.socket, request: int) -> int:
    number = array.array("i", [0])
    fcntl.ioctl(sock, request, number)
    return number[0]
