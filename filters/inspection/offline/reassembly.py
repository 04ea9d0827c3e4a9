"""Put TCP segments together as a capture has them: the first copy wins, another one is a finding."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from filters.inspection.finding import Refusal
from filters.inspection.offline.packet import FIN, RST, SYN, URG, Packet
from filters.reason import DropReason

_HALF = 1 << 31
MOST_WAITING = 16 << 20  # bytes ahead of a gap


@dataclass(slots=True)
class Side:
    """One direction of a TCP connection."""

    next: int | None = None  # sequence number expected
    waiting: dict[int, bytes] = field(default_factory=dict)
    held: int = 0
    kept: bytearray = field(
        default_factory=bytearray
    )  # the latest delivered bytes, to compare repetitions with
    ended: bool = False
    fin_at: int | None = None

    def take(self, packet: Packet) -> Iterator[bytes]:
        """Yield what becomes contiguous with this segment; raises Refusal when a repetition says something else."""
        sequence, data = packet.sequence, packet.payload
        if packet.flags & SYN:
            sequence = (sequence + 1) % (1 << 32)
            self.next = sequence if self.next is None else self.next
        if packet.flags & URG and data:
            raise Refusal("tcp-urgent", "urgent data: receivers place it differently")
        if self.next is None:
            self.next = sequence
        if packet.flags & FIN:
            self.fin_at = (sequence + len(data)) % (1 << 32)
        yield from self._place(sequence, data)
        if self.fin_at is not None and self.next == self.fin_at:
            self.ended = True

    def _place(self, sequence: int, data: bytes) -> Iterator[bytes]:
        offset = _distance(self.next or 0, sequence)
        if offset < 0:
            repeated = data[: min(len(data), -offset)]
            before = bytes(
                self.kept[max(0, len(self.kept) + offset) : len(self.kept) + offset + len(repeated)]
            )
            if len(before) == len(repeated) and before != repeated:
                raise Refusal("tcp-overlap", "a repetition with other content: receivers choose differently")
            data, offset = data[-offset:], 0
        if not data:
            return
        if offset:
            self._keep(offset, data)
            return
        yield self._deliver(data)
        while (ready := self._ready()) is not None:
            if ready:
                yield self._deliver(ready)

    def _keep(self, offset: int, data: bytes) -> None:
        at = ((self.next or 0) + offset) % (1 << 32)
        known = self.waiting.get(at)
        if known is not None:
            size = min(len(known), len(data))
            if known[:size] != data[:size]:
                raise Refusal("tcp-overlap", "a repetition with other content: receivers choose differently")
            if len(known) >= len(data):
                return
            self.held -= len(known)
        self.waiting[at] = data
        self.held += len(data)
        if self.held > MOST_WAITING:
            raise Refusal(
                "tcp-gap", f"more than {MOST_WAITING} bytes behind a gap", DropReason.RESOURCE_LIMIT
            )

    def _ready(self) -> bytes | None:
        """Return the next waiting bytes (empty: an old repetition), or None when there are none."""
        for at, data in self.waiting.items():
            offset = _distance(self.next or 0, at)
            if offset <= 0:
                del self.waiting[at]
                self.held -= len(data)
                repeated, new = data[:-offset] if offset else b"", data[-offset:] if offset else data
                before = bytes(self.kept[len(self.kept) + offset :][: len(repeated)]) if offset else b""
                if len(before) == len(repeated) and before != repeated:
                    raise Refusal(
                        "tcp-overlap", "a repetition with other content: receivers choose differently"
                    )
                return new
        return None

    def _deliver(self, data: bytes) -> bytes:
        self.next = ((self.next or 0) + len(data)) % (1 << 32)
        self.kept += data
        if len(self.kept) > 1 << 18:
            del self.kept[: len(self.kept) - (1 << 17)]
        return data


def _distance(base: int, sequence: int) -> int:
    return (sequence - base + _HALF) % (1 << 32) - _HALF


def is_reset(packet: Packet) -> bool:
    """Tell whether a packet ends its connection at once."""
    return bool(packet.flags & RST)
