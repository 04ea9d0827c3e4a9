"""Read, delete and make connections in the kernel's table (linux/netfilter/nfnetlink_conntrack.h)."""

import errno
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from filters.errors import NetdError
from filters.flow import Protocol
from filters.netd import netlink as nl
from filters.netd.netlink_socket import NetlinkSocket
from filters.ruleset.names import HANDED_BIT

_NEW, _GET, _DELETE = 0, 1, 2  # IPCTNL_MSG_CT_*
_ORIGINAL, _REPLY, _STATUS, _PROTOCOL_INFO, _SOURCE_NAT, _TIMEOUT, _MARK = (
    1,
    2,
    3,
    4,
    6,
    7,
    8,
)  # CTA_TUPLE_*, CTA_*
_SEQUENCES_ORIGINAL, _SEQUENCES_REPLY, _MARK_MASK = 15, 16, 21
_TUPLE_IP, _TUPLE_PROTOCOL, _IP_SOURCE, _IP_DESTINATION = 1, 2, 1, 2
_PROTOCOL_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_NAT_ADDRESS, _NAT_PORTS, _PORT_LOW, _PORT_HIGH = 1, 3, 1, 2
_TCP, _TCP_STATE, _TCP_FLAGS_ORIGINAL, _TCP_FLAGS_REPLY = 1, 1, 4, 5  # CTA_PROTOINFO_TCP_*
_ESTABLISHED: Final = 3  # TCP_CONNTRACK_ESTABLISHED
# Two windows were agreed on before this entry: the kernel must not judge by one it never saw begin.
_LIBERAL: Final = 0x08  # IP_CT_TCP_FLAG_BE_LIBERAL
_SEEN_BOTH_WAYS: Final = 0x2 | 0x4 | 0x8  # IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
_POSITION, _BEFORE, _AFTER = 1, 2, 3  # CTA_SEQADJ_*
_IDLE_S: Final = 432_000  # until its first packet, as long as the kernel keeps any connection

Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Known:
    """What the kernel knows of a connection: its mark, and the port that the server sees."""

    mark: int
    port: int


@dataclass(frozen=True, slots=True)
class Joined:
    """One connection made of two: the client's, which ends here, and the one that goes on to the server.

    far: where the second comes from, for its socket. port: the same as the server sees it, where that was taken.
    to_server, to_client: what is added to the sequence numbers of each direction, modulo 2^32.
    """

    client: Endpoint
    far: Endpoint
    server: Endpoint
    port: int
    mark: int
    to_server: int
    to_client: int


def delete_message(lease_id: int | None, sequence: int) -> bytes:
    """Write the message that deletes the connections with this mark, handed over or not, or all (None)."""
    payload = b""
    if lease_id is not None:
        payload = nl.u32(_MARK, lease_id) + nl.u32(_MARK_MASK, 0xFFFF_FFFF ^ HANDED_BIT)
    return nl.nf_message(nl.Subsystem.CTNETLINK, _DELETE, nl.NLM_F_ACK, sequence, payload)


def get_message(client: Endpoint, server: Endpoint, sequence: int) -> bytes:
    """Write the message that asks for one TCP connection."""
    return _about(_GET, _tuple(_ORIGINAL, client, server), sequence)


def read_known(payload: bytes) -> Known:
    """Read the kernel's answer; raises NetdError `kernel`."""
    found = nl.attribute_map(payload, nl.NFGEN_LENGTH)
    reply = nl.attribute_map(nl.attribute_map(found[_REPLY])[_TUPLE_PROTOCOL])
    mark = int.from_bytes(found.get(_MARK, b""), "big")
    return Known(mark, int.from_bytes(reply[_DESTINATION_PORT], "big"))


def join_message(joined: Joined, sequence: int) -> bytes:
    """Write the message that makes an established connection whose port and sequence numbers the kernel translates."""
    client_as_seen = joined.client[0], joined.port
    flags = bytes([_LIBERAL, _LIBERAL])
    protocol = nl.nested(
        _TCP,
        nl.attribute(_TCP_STATE, bytes([_ESTABLISHED])),
        nl.attribute(_TCP_FLAGS_ORIGINAL, flags),
        nl.attribute(_TCP_FLAGS_REPLY, flags),
    )
    ports = nl.attribute(_PORT_LOW, _port(joined.port)) + nl.attribute(_PORT_HIGH, _port(joined.port))
    payload = (
        _tuple(_ORIGINAL, joined.client, joined.server)
        + _tuple(_REPLY, joined.server, joined.client)  # the kernel puts the other port in by itself
        + nl.u32(_STATUS, _SEEN_BOTH_WAYS)
        + nl.nested(_PROTOCOL_INFO, protocol)
        + nl.u32(_TIMEOUT, _IDLE_S)
        + nl.u32(_MARK, joined.mark)
        + nl.nested(
            _SOURCE_NAT, nl.attribute(_NAT_ADDRESS, _address(client_as_seen)), nl.nested(_NAT_PORTS, ports)
        )
        + _sequences(_SEQUENCES_ORIGINAL, joined.to_server)
        + _sequences(_SEQUENCES_REPLY, joined.to_client)
    )
    return _about(_NEW, payload, sequence, nl.NLM_F_CREATE | nl.NLM_F_EXCL)


def delete_connections(lease_ids: Iterable[int]) -> None:
    """Delete the connections of some leases. Each id walks the whole table once (13-28 ms per 20,000)."""
    with NetlinkSocket() as netlink:
        for lease_id in lease_ids:
            _delete(netlink, lease_id)


def flush_connections() -> None:
    """Delete all connections of this network namespace."""
    with NetlinkSocket() as netlink:
        _delete(netlink, None)


def look_up(netlink: NetlinkSocket, client: Endpoint, server: Endpoint) -> Known:
    """Return what the kernel knows of a TCP connection; raises NetdError `kernel` when that is nothing."""
    sequence = netlink.sequence()
    answers = netlink.execute(get_message(client, server, sequence), sequence, "look up a connection")
    return read_known(answers[0].payload)


def join(netlink: NetlinkSocket, joined: Joined) -> None:
    """Put one connection in the place of two; raises NetdError `kernel`: then none of them is left."""
    for client in (joined.client, joined.far):
        sequence = netlink.sequence()
        message = _about(_DELETE, _tuple(_ORIGINAL, client, joined.server), sequence)
        netlink.execute(message, sequence, "delete a connection")
    sequence = netlink.sequence()
    netlink.execute(join_message(joined, sequence), sequence, "join two connections")


def _delete(netlink: NetlinkSocket, lease_id: int | None) -> None:
    sequence = netlink.sequence()
    try:
        netlink.execute(delete_message(lease_id, sequence), sequence, "delete connections")
    except NetdError as error:
        if error.params.get("errno") != errno.ENOENT:
            raise


def _about(kind: int, payload: bytes, sequence: int, flags: int = 0) -> bytes:
    flags |= nl.NLM_F_ACK
    return nl.nf_message(nl.Subsystem.CTNETLINK, kind, flags, sequence, payload, family=socket.AF_INET)


def _tuple(kind: int, source: Endpoint, destination: Endpoint) -> bytes:
    addresses = nl.attribute(_IP_SOURCE, _address(source)) + nl.attribute(
        _IP_DESTINATION, _address(destination)
    )
    ports = nl.attribute(_SOURCE_PORT, _port(source[1])) + nl.attribute(
        _DESTINATION_PORT, _port(destination[1])
    )
    number = nl.attribute(_PROTOCOL_NUMBER, bytes([Protocol.TCP]))
    return nl.nested(kind, nl.nested(_TUPLE_IP, addresses), nl.nested(_TUPLE_PROTOCOL, number + ports))


def _sequences(kind: int, offset: int) -> bytes:
    # the same before and after any position: every byte of this direction was and will be elsewhere
    signed = struct.pack("!I", offset % (1 << 32))
    return nl.nested(kind, nl.u32(_POSITION, 0), nl.attribute(_BEFORE, signed), nl.attribute(_AFTER, signed))


def _address(end: Endpoint) -> bytes:
    return socket.inet_aton(end[0])


def _port(number: int) -> bytes:
    return number.to_bytes(2, "big")
