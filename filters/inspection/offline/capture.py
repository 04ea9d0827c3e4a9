"""Read captures: pcap and pcapng (IETF draft-ietf-opsawg-pcap, -pcapng). A broken end is told, not raised."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_PCAP = {
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
}
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_READ = frozenset({_INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED})
_LONGEST = 1 << 20  # bytes of what is read; secrets of TLS, names and comments may be longer


class CaptureError(ValueError):
    """The file is no capture."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame: its number (from 1), time (s since 1970), link type, bytes, and length on the wire."""

    number: int
    time: float
    link: int
    data: bytes
    length: int


class Capture:
    """Frames of one file. `broken` says where and why reading stopped early, if it did."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises CaptureError when the first bytes are no capture's."""
        self._file = file
        self.broken = ""
        magic = file.read(4)
        if magic in _PCAP:
            self._frames = self._pcap(*_PCAP[magic])
        elif magic == _PCAPNG:
            self._frames = self._pcapng()
        else:
            raise CaptureError(f"expected a pcap or pcapng file; it begins with {magic.hex() or 'nothing'}")

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def _read(self, size: int, what: str) -> bytes | None:
        data = self._file.read(size)
        if len(data) == size:
            return data
        if data or what != "record":
            self.broken = f"the file ends inside a {what}"
        return None

    def _pcap(self, order: str, unit: float) -> Iterator[Frame]:
        head = self._read(20, "header")
        if head is None:
            return
        link, number = struct.unpack(order + "I", head[16:])[0] & 0x0FFFFFFF, 0
        while (record := self._read(16, "record")) is not None:
            seconds, fraction, kept, length = struct.unpack(order + "4I", record)
            if kept > _LONGEST:
                self.broken = f"record {number + 1} says it has {kept} bytes"
                return
            if (data := self._read(kept, "frame")) is None:
                return
            number += 1
            yield Frame(number, seconds + fraction * unit, link, data, length)

    def _pcapng(self) -> Iterator[Frame]:
        order, links, number = "<", list[tuple[int, float]](), 0
        kind: int | None = _SECTION
        while kind is not None:
            if kind == _SECTION:
                found = self._section()
                if found is None:
                    return
                order, links = found, []
            elif kind not in _READ:
                if not self._skip(order):
                    return
            elif (body := self._block(order)) is None:
                return
            elif kind == _INTERFACE and len(body) >= 8:
                links.append((struct.unpack(order + "H", body[:2])[0], _resolution(body[8:], order)))
            elif kind != _INTERFACE:
                frame = _packet(body, kind, order, links, number + 1)
                if frame is None:
                    self.broken = f"a block after frame {number} contradicts itself"
                    return
                number += 1
                yield frame
            head = self._read(4, "record")
            kind = None if head is None else struct.unpack(order + "I", head)[0]

    def _section(self) -> str | None:
        head = self._read(8, "section header")
        if head is None:
            return None
        orders = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
        order = orders.get(head[4:])
        if order is None:
            self.broken = "a section header without its byte order"
            return None
        size = struct.unpack(order + "I", head[:4])[0]
        return order if self._rest(size, 12) is not None else None

    def _block(self, order: str) -> bytes | None:
        head = self._read(4, "block")
        return None if head is None else self._rest(struct.unpack(order + "I", head)[0], 8)

    def _skip(self, order: str) -> bool:
        """Pass over a block that holds no frame, however long it is."""
        head = self._read(4, "block")
        if head is None:
            return False
        size = struct.unpack(order + "I", head)[0]
        if size % 4 or size < 12:
            self.broken = f"a block says it has {size} bytes"
            return False
        left = size - 8
        while left:
            piece = self._read(min(left, _LONGEST), "block")
            if piece is None:
                return False
            left -= len(piece)
        return True

    def _rest(self, size: int, read: int) -> bytes | None:
        """Read what is left of a block of `size` bytes, without its trailing length."""
        if size % 4 or not read + 4 <= size <= _LONGEST:
            self.broken = f"a block says it has {size} bytes"
            return None
        body = self._read(size - read, "block")
        return None if body is None else body[:-4]


def _resolution(options: bytes, order: str) -> float:
    """Return the unit of an interface's timestamps (option if_tsresol)."""
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack(order + "HH", options[at : at + 4])
        if code == 9 and length == 1 and at + 4 < len(options):
            value = options[at + 4]
            return float(2.0 ** -(value & 0x7F)) if value & 0x80 else float(10.0**-value)
        at += 4 + (length + 3) // 4 * 4
    return 1e-6


def _packet(body: bytes, kind: int, order: str, links: list[tuple[int, float]], number: int) -> Frame | None:
    if kind == _SIMPLE:
        if len(body) < 4 or not links:
            return None
        length = struct.unpack(order + "I", body[:4])[0]
        return Frame(number, 0.0, links[0][0], body[4 : 4 + length], length)
    if len(body) < 20:
        return None
    # the obsolete block has a count of dropped frames beside a shorter number
    layout = "H2x4I" if kind == _OBSOLETE else "5I"
    interface, high, low, kept, length = struct.unpack(order + layout, body[:20])
    if interface >= len(links) or 20 + kept > len(body):
        return None
    link, unit = links[interface]
    return Frame(number, ((high << 32) + low) * unit, link, body[20 : 20 + kept], length)
