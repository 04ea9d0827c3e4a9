"""Write and read netlink messages as bytes (linux/netlink.h, linux/netfilter/nfnetlink.h). Pure: no I/O.

Headers are in host order; nfnetlink attributes carry numbers in network order unless a header says otherwise.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from filters.errors import NetdError
from filters.netd.protocol import NetdCode

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_CREATE: Final = 0x400
NLM_F_EXCL: Final = 0x200
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_DUMP_INTR: Final = 0x10

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_NFGEN: Final = struct.Struct("!BBH")  # family, version, resource id
_ERRNO: Final = struct.Struct("=i")
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF
NFGEN_LENGTH: Final = _NFGEN.size


class Subsystem(IntEnum):
    """nfnetlink subsystems (linux/netfilter/nfnetlink.h)."""

    CTNETLINK = 1
    QUEUE = 3
    ULOG = 4
    NFTABLES = 10


@dataclass(frozen=True, slots=True)
class Message:
    """One received message: its header and what follows it."""

    type: int
    flags: int
    sequence: int
    payload: bytes

    @property
    def error(self) -> int | None:
        """The errno of an NLMSG_ERROR (0: acknowledged), None for other messages."""
        if self.type != NLMSG_ERROR or len(self.payload) < _ERRNO.size:
            return None
        return -int(_ERRNO.unpack_from(self.payload)[0])


def attribute(kind: int, value: bytes) -> bytes:
    """Write one attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Write an attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """Write a NUL-terminated string attribute."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """Write a big-endian 32-bit attribute."""
    return attribute(kind, value.to_bytes(4, "big"))


def u64(kind: int, value: int) -> bytes:
    """Write a big-endian 64-bit attribute."""
    return attribute(kind, value.to_bytes(8, "big"))


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """Write one message, padded to four bytes."""
    header = _HEADER.pack(_HEADER.size + len(payload), kind, flags, sequence, 0)
    return header + payload + bytes(-len(payload) % 4)


def nf_message(
    subsystem: Subsystem,
    kind: int,
    flags: int,
    sequence: int,
    payload: bytes,
    *,
    family: int = 0,
    resource: int = 0,
) -> bytes:
    """Write one nfnetlink message."""
    body = _NFGEN.pack(family, 0, resource) + payload
    return message(subsystem << 8 | kind, flags | NLM_F_REQUEST, sequence, body)


def messages(data: bytes) -> Iterator[Message]:
    """Cut a received datagram into messages; raises NetdError `kernel` when it is cut short."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            raise NetdError(NetdCode.KERNEL.value, f"netlink message of {length} bytes is cut short")
        yield Message(kind, flags, sequence, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Walk attributes as (type without flags, value); raises NetdError `kernel` when one is cut short."""
    end, unpack = len(data), _ATTRIBUTE.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4 or offset + length > end:
            raise NetdError(NetdCode.KERNEL.value, f"netlink attribute of {length} bytes is cut short")
        yield kind & _TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


class Attributes(dict[int, bytes]):
    """Attributes by their type; asking for one that is missing raises NetdError `kernel`."""

    def __missing__(self, kind: int) -> bytes:
        raise NetdError(NetdCode.KERNEL.value, f"netlink attribute {kind} is missing")


def attribute_map(data: bytes, offset: int = 0) -> Attributes:
    """Read attributes that occur once each."""
    return Attributes(attributes(data, offset))
