"""Ask the kernel how many bytes a TCP connection carried (sock_diag(7), linux/inet_diag.h).

A live connection is found by a dump; one that is gone was announced by the kernel's destroy
notification, which carries its last TCP_INFO. So a report does not depend on the program that served
the connection.
"""

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
SKNLGRP_INET_TCP_DESTROY = 1
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_INFO = 2
ALL_STATES = 0xFFFFFFFF
TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING, TCP_TIME_WAIT = 8, 9, 11, 6
_BYTES_RECEIVED_AT = 128  # offset of tcpi_bytes_received in struct tcp_info (linux/tcp.h)
_NLMSG = struct.Struct("=IHHII")
_DIAG_MSG_LENGTH = 72


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


def dump_request() -> bytes:
    """Encode a dump of all IPv4 TCP sockets with their TCP_INFO (struct inet_diag_req_v2)."""
    body = struct.pack(
        "=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, ALL_STATES
    ) + bytes(48)
    return _NLMSG.pack(_NLMSG.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body


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
    if len(body) < _DIAG_MSG_LENGTH or body[0] != socket.AF_INET:
        return []
    source_port, destination_port = struct.unpack_from(">HH", body, 4)
    connection = Connection(
        (IPv4Address(body[8:12]), source_port), (IPv4Address(body[24:28]), destination_port)
    )
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


class TcpDiag:
    """The kernel's view of this machine's TCP connections; watches closing ones from its creation on."""

    def __init__(self) -> None:
        self._closing = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG
        )
        self._closing.bind((0, 1 << (SKNLGRP_INET_TCP_DESTROY - 1)))
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

    @staticmethod
    def live() -> list[tuple[Connection, TcpCount]]:
        """Dump the connections that live now."""
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG
        ) as dump:
            dump.sendto(dump_request(), (0, 0))
            found: list[tuple[Connection, TcpCount]] = []
            done = False
            while not done:
                some, done = parse(dump.recv(1 << 18), closed=False)
                found.extend(some)
            return found

    def close(self) -> None:
        """Stop watching."""
        self._closing.close()
