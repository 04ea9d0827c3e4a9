"""The line's wire format. Pure.

A frame is 4 bytes channel, 1 byte kind, 2 bytes length (all big-endian), and so many bytes, at most MAX_DATA:

- OPEN: a new channel; the data is the name of the service that is wanted, in ASCII. The host's channels have even
  numbers, the gateway's odd ones.
- DATA: bytes of the connection, one at least. At most WINDOW of them may be on their way unread.
- CREDIT: so many bytes (4, big-endian) were read by whoever they were for: the other side may send as many again.
- CLOSE: the connection is over, in both directions. Whatever comes for it afterwards is left unread.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from hostlink.errors import LinkError

MAX_DATA, WINDOW = 16 << 10, 128 << 10
_HEAD = struct.Struct(">IBH")
_CREDIT = struct.Struct(">I")


class Kind(IntEnum):
    """What a frame says."""

    OPEN = 0
    DATA = 1
    CREDIT = 2
    CLOSE = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame."""

    channel: int
    kind: Kind
    data: bytes = b""

    def encode(self) -> bytes:
        """Write it as it travels."""
        return _HEAD.pack(self.channel, self.kind, len(self.data)) + self.data

    @property
    def credit(self) -> int:
        """Read how many bytes were read; raises LinkError."""
        if len(self.data) != _CREDIT.size:
            raise LinkError("bad-frame", f"a CREDIT has {_CREDIT.size} bytes, got {len(self.data)}")
        (count,) = _CREDIT.unpack(self.data)
        return int(count)


def credit_frame(channel: int, count: int) -> Frame:
    """Say that bytes were read."""
    return Frame(channel, Kind.CREDIT, _CREDIT.pack(count))


class Decoder:
    """Cut a stream into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, untrusted: bytes) -> Iterator[Frame]:
        """Take what came; yield the frames that are whole now. Raises LinkError `bad-frame`: the line is useless then."""
        self._rest += untrusted
        while len(self._rest) >= _HEAD.size:
            channel, kind, length = _HEAD.unpack_from(self._rest)
            if kind not in tuple(Kind) or length > MAX_DATA or (kind == Kind.DATA and not length):
                raise LinkError("bad-frame", f"got kind {kind} with {length} bytes; the line is out of step")
            if len(self._rest) < _HEAD.size + length:
                return
            data = bytes(self._rest[_HEAD.size : _HEAD.size + length])
            del self._rest[: _HEAD.size + length]
            yield Frame(channel, Kind(kind), data)
