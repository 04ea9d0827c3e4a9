"""Put TCP segments together as a capture has them: the first copy wins, another one is a finding."""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from filters.inspection.finding import Refusal
from filters.inspection.packet import FIN, PSH, SYN, URG, Packet
from filters.reason import DropReason

_ALL: Final = 1 << 32
_HALF: Final = 1 << 31
_SEGMENT: Final = 256  # bytes: what keeping a segment costs besides its own
MOST_WAITING: Final = 16 << 20  # bytes ahead of a gap
MOST_SEGMENTS: Final = 16 << 10  # segments ahead of a gap
MOST_RIVALS: Final = 16


@dataclass(slots=True)
class Side:
    """One direction of a TCP connection. Positions are sequence numbers that don't wrap."""

    start: int | None = None  # position of the first byte
    next: int = 0  # position expected
    waiting: dict[int, bytes] = field(default_factory=dict)  # by position
    order: list[int] = field(default_factory=list)  # of the positions in `waiting`
    held: int = 0  # bytes in `waiting`
    # the latest delivered bytes, to compare repetitions with
    kept: bytearray = field(default_factory=bytearray)
    rivals: list[int] = field(default_factory=list)  # sequence numbers at which other SYNs began
    confirmed: bool = False  # the other end acknowledged the beginning
    acknowledged: int = 0  # the latest sequence number the other end acknowledged; 0: none
    skipped: int = 0  # segments with bytes from before the beginning
    fin_at: int | None = None
    ended: bool = False

    @property
    def is_settled(self) -> bool:
        """Tell whether it is sure where this direction began."""
        return self.confirmed or bool(self.kept)

    @property
    def delivered(self) -> int:
        """Return how many bytes were contiguous."""
        return self.next - (self.start or 0)

    @property
    def size(self) -> int:
        """Return about how many bytes of memory its bytes take."""
        return self.held + len(self.order) * _SEGMENT + len(self.kept)

    def take(self, packet: Packet) -> Iterator[bytes]:
        """Yield what becomes contiguous with this segment; raises Refusal when a repetition says something else."""
        sequence, data = packet.sequence, packet.payload
        if packet.flags & SYN:
            sequence = (sequence + 1) % _ALL
            if not self.begin(sequence):
                self.skipped += bool(data)
                return
        if packet.flags & URG and data:
            raise Refusal("tcp-urgent", "urgent data: receivers place it differently")
        if self.start is None:
            self.start = self.next = sequence
        position = self._position(sequence)
        if packet.flags & FIN:
            self.fin_at = position + len(data)
        if not self._is_keep_alive(packet, position):
            yield from self._place(position, data)
        yield from self._ready()
        if self.fin_at == self.next:
            self.ended = True

    def begin(self, sequence: int) -> bool:
        """Tell whether this direction begins here. Until that is sure the latest beginning holds; others are remembered."""
        if self.start is None:
            self.start = self.next = sequence
        if self.began_at(sequence):
            return True
        if self.is_settled:
            self._remember(sequence)
            return False
        self._remember(self.start % _ALL)
        self.start = self.next = self._position(sequence)
        return True

    def acknowledge(self, number: int) -> None:
        """Hear what the other end acknowledges: it shows which of several beginnings it took."""
        if not number or self.start is None:  # 0: what wrote the capture left it out
            return
        self.acknowledged = number
        if not self.is_settled and number in self.rivals:
            self.begin(number)
        self.confirmed = self.confirmed or self._position(number) == self.start

    def began_at(self, sequence: int) -> bool:
        """Tell whether this direction began at a sequence number."""
        return self.start is not None and (sequence - self.start) % _ALL == 0

    def clear(self) -> None:
        """Free the bytes: nothing follows."""
        for one in (self.waiting, self.order, self.kept):
            one.clear()
        self.held = 0

    def _remember(self, sequence: int) -> None:
        self.rivals.append(sequence)
        del self.rivals[:-MOST_RIVALS]

    def _position(self, sequence: int) -> int:
        return self.next + (sequence - self.next + _HALF) % _ALL - _HALF

    def _is_keep_alive(self, packet: Packet, position: int) -> bool:
        """Tell whether a byte that was sent before only asks for an answer: it may be any byte (RFC 1122, 4.2.3.6)."""
        if len(packet.payload) != 1 or packet.flags & (FIN | SYN) or position >= self.next:
            return False
        if self.acknowledged:  # it may be late: what follows came before it
            return (self.start or 0) <= position < self._position(self.acknowledged) <= self.next
        # nobody tells whether the other end has the former
        return position == self.next - 1 and packet.payload == b"\0" and not packet.flags & PSH

    def _place(self, position: int, data: bytes) -> Iterator[bytes]:
        if position > self.next:
            self._keep(position, data)
            return
        if data := self._new(position, data):
            yield self._deliver(data)

    def _new(self, position: int, data: bytes) -> bytes:
        """Return what of some bytes was not there before; what was must be the same."""
        self.skipped += bool(data) and position < (self.start or 0)
        repeated = data[: self.next - position]
        first = self.next - len(self.kept)
        there = self.kept[max(0, position - first) : max(0, position + len(repeated) - first)]
        if there != repeated[max(0, first - position) :]:
            raise Refusal("tcp-overlap", "a repetition with other content: receivers choose differently")
        return data[len(repeated) :]

    def _keep(self, position: int, data: bytes) -> None:
        known = self.waiting.get(position)
        if known is None and data:
            insort(self.order, position)
        known = known or b""
        size = min(len(known), len(data))
        if known[:size] != data[:size]:
            raise Refusal("tcp-overlap", "a repetition with other content: receivers choose differently")
        if len(known) >= len(data):
            return
        self.waiting[position] = data
        self.held += len(data) - len(known)
        if self.held > MOST_WAITING or len(self.order) > MOST_SEGMENTS:
            raise Refusal(
                "tcp-gap",
                f"more than {MOST_WAITING} bytes or {MOST_SEGMENTS} segments behind a gap",
                DropReason.RESOURCE_LIMIT,
            )

    def _ready(self) -> Iterator[bytes]:
        """Yield what waited for bytes that are there now."""
        while self.order and self.order[0] <= self.next:
            position = self.order.pop(0)
            data = self.waiting.pop(position)
            self.held -= len(data)
            if data := self._new(position, data):
                yield self._deliver(data)

    def _deliver(self, data: bytes) -> bytes:
        self.next += len(data)
        self.kept += data
        if len(self.kept) > 1 << 18:
            del self.kept[: len(self.kept) - (1 << 17)]
        return data
