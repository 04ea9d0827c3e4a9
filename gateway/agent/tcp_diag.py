"""Ask the kernel how many bytes a TCP connection carried (sock_diag(7), linux/inet_diag.h).

A live connection is looked up by itself, however many there are: others ask for it, and make them. One that is gone was
announced by the kernel's destroy notification, which carries its last TCP_INFO. So a report does not depend on the
program that served the connection, nor on whether its socket is one of IPv4 or takes both families.
"""

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY = 1, 3
NLM_F_REQUEST = 1
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_INFO = 2
ALL_STATES = 0xFFFFFFFF
TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING, TCP_TIME_WAIT = 8, 9, 11, 6
_BYTES_RECEIVED_AT = 128  # offset of tcpi_bytes_received in struct tcp_info (linux/tcp.h)
_NLMSG = struct.Struct("=IHHII")
_DIAG_MSG_LENGTH = 72
_ANY_SOCKET = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # of any interface, INET_DIAG_NOCOOKIE
_MAPPED = bytes(10) + b"\xff\xff"  # IPv4 in a socket of IPv6 (RFC 4291, 2.5.5.2)


@dataclass(frozen=True, slots=True)
class Connection:
    """The four-tuple, as seen from here."""

    local: tuple[IPv4Address, int]
    remote: tuple[IPv4Address, int]


@dataclass(frozen=True, slots=True)
class TcpCount:
    """What a connection carried; `closed` once the kernel has given it up."""

    state: int
    bytes_received: int
    closed: bool

    @property
    def payload_received(self) -> int:
        """Bytes of payload: the kernel counts the peer's FIN as one byte once it came."""
        fin_seen = self.state in (TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING, TCP_TIME_WAIT) or self.closed
        return max(0, self.bytes_received - 1) if fin_seen and self.bytes_received else self.bytes_received


def lookup_request(connection: Connection) -> bytes:
    """Encode a look-up of one TCP connection with its TCP_INFO (struct inet_diag_req_v2)."""
    (here, port), (there, port_there) = connection.local, connection.remote
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, ALL_STATES)
    body += struct.pack(">HH16s16s", port, port_there, here.packed, there.packed) + _ANY_SOCKET
    return _NLMSG.pack(_NLMSG.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + body


def parse(data: bytes, *, closed: bool) -> tuple[list[tuple[Connection, TcpCount]], bool]:
    """Decode one datagram of answers; the flag tells whether the dump is complete."""
    found: list[tuple[Connection, TcpCount]] = []
    offset = 0
    while offset + _NLMSG.size <= len(data):
        length, kind, _, _, _ = _NLMSG.unpack_from(data, offset)
        if kind in (NLMSG_DONE, NLMSG_ERROR) or length < _NLMSG.size:
            return found, True
        if kind == SOCK_DIAG_BY_FAMILY:
            found.extend(_parse_one(data[offset + _NLMSG.size : offset + length], closed=closed))
        offset += (length + 3) & ~3
    return found, False


def _parse_one(body: bytes, *, closed: bool) -> list[tuple[Connection, TcpCount]]:
    if len(body) < _DIAG_MSG_LENGTH:
        return []
    source_port, destination_port = struct.unpack_from(">HH", body, 4)
    here, there = _address(body[0], body[8:24]), _address(body[0], body[24:40])
    if here is None or there is None:
        return []
    connection = Connection((here, source_port), (there, destination_port))
    offset = _DIAG_MSG_LENGTH
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            break
        info = body[offset + 4 : offset + length]
        if kind == INET_DIAG_INFO and len(info) >= _BYTES_RECEIVED_AT + 8:
            (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED_AT)
            return [(connection, TcpCount(body[1], received, closed))]
        offset += (length + 3) & ~3
    return []


def _address(family: int, raw: bytes) -> IPv4Address | None:
    if family == socket.AF_INET:
        return IPv4Address(raw[:4])
    mapped = family == socket.AF_INET6 and raw.startswith(_MAPPED)
    return IPv4Address(raw[len(_MAPPED) :]) if mapped else None


class TcpDiag:
    """The kernel's view of this machine's TCP connections; watches closing ones from its creation on."""

    def __init__(self) -> None:
        self._closing = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG
        )
        groups = 1 << (SKNLGRP_INET_TCP_DESTROY - 1) | 1 << (SKNLGRP_INET6_TCP_DESTROY - 1)
        self._closing.bind((0, groups))
        self._closing.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that gets readable when connections closed."""
        return self._closing.fileno()

    def closed(self) -> list[tuple[Connection, TcpCount]]:
        """Return the connections that were closed since the last call."""
        found: list[tuple[Connection, TcpCount]] = []
        while True:
            try:
                found.extend(parse(self._closing.recv(65536), closed=True)[0])
            except BlockingIOError:
                return found
            except OSError as error:
                # more closed at once than the kernel keeps for us: those are not witnessed, later ones are
                if error.errno != errno.ENOBUFS:
                    raise

    @staticmethod
    def find(connection: Connection) -> TcpCount | None:
        """Look up a connection that lives now."""
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG
        ) as asking:
            asking.sendto(lookup_request(connection), (0, 0))
            found, _ = parse(asking.recv(1 << 16), closed=False)
        # where there is none the kernel names who listens there
        return next((count for one, count in found if one == connection), None)

    def close(self) -> None:
        """Stop watching."""
        self._closing.close()
