"""Let each leg of a connection count windows as the end behind the other leg does (RFC 7323 section 2.3): only then can both become one (handing.py)."""

import socket
from typing import Final

_WINDOW_CLAMP: Final = (
    10  # TCP_WINDOW_CLAMP: the largest window, from which the kernel derives what it offers
)
_LARGEST: Final = 14
_END, _NOTHING, _WINDOW_SCALE = 0, 1, 3  # kinds of TCP options


def read_shift(untrusted_packet: bytes) -> int | None:
    """Read what a packet that opens a connection offers; None where it offers nothing, or is cut short."""
    packet = untrusted_packet
    start = (packet[0] & 0xF) * 4 if packet else 0
    if len(packet) < start + 20:
        return None
    options = packet[start + 20 : start + (packet[start + 12] >> 4) * 4]
    at = 0
    while at < len(options) and options[at] != _END:
        if options[at] == _NOTHING:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2:
            return None
        if options[at] == _WINDOW_SCALE and length == 3 and at + 2 < len(options):
            return min(options[at + 2], _LARGEST)
        at += length
    return None


def offer(sock: socket.socket, shift: int | None) -> None:
    """Let a socket, or those that a listener makes, offer this from now on; None: what the kernel would."""
    largest = 0xFFFF << (_LARGEST if shift is None else shift)
    sock.setsockopt(socket.IPPROTO_TCP, _WINDOW_CLAMP, largest)
