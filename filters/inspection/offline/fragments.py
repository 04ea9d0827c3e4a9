"""Put the fragments of IP datagrams together. The first copy of a byte wins, another one is a finding."""

from bisect import bisect_left, insort
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final

from filters.inspection.finding import Refusal
from filters.inspection.packet import Fragment, Unreadable

MOST_FRAGMENTS: Final = 8192
MOST_BYTES: Final = 64 << 20  # a fragment may be as long as a datagram


@dataclass(slots=True)
class _Datagram:
    """What is there of one datagram. No two pieces overlap."""

    pieces: dict[int, Fragment] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)  # of the pieces, in order
    held: int = 0
    end: int | None = None  # known once its last fragment is there

    def overlaps(self, start: int, end: int) -> bool:
        """Tell whether bytes from `start` to `end` are there already, or lie behind the end."""
        if self.end is not None and end > self.end:
            return True
        at = bisect_left(self.starts, start)
        if at < len(self.starts) and self.starts[at] < end:
            return True
        return at > 0 and start < self.starts[at - 1] + len(self.pieces[self.starts[at - 1]].data)

    def put(self, piece: Fragment) -> None:
        """Keep a piece that overlaps nothing."""
        insort(self.starts, piece.offset)
        self.pieces[piece.offset] = piece
        self.held += len(piece.data)
        if not piece.more:
            self.end = piece.offset + len(piece.data)

    def contradicts_end(self, piece: Fragment) -> bool:
        """Tell whether a last fragment ends elsewhere than what is there."""
        if piece.more:
            return False
        if self.end is not None:
            return True
        return bool(self.starts) and self.starts[-1] >= piece.offset

    def whole(self) -> Fragment:
        """Join all pieces. What it carries says the first (RFC 8200, 4.5)."""
        data = b"".join(self.pieces[start].data for start in self.starts)
        return replace(self.pieces[0], more=False, data=data)


class Fragments:
    """Datagrams that are not whole yet. Overlapping fragments are refused (RFC 5722 says so for IPv6)."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[object, ...], _Datagram] = OrderedDict()
        self._count = self._held = self._forgotten = 0

    @property
    def left(self) -> int:
        """How many fragments never became whole."""
        return self._count + self._forgotten

    def add(self, piece: Fragment) -> Fragment | None:
        """Take a fragment; return the whole datagram once it is there; raises Refusal for an overlap, Unreadable."""
        if not piece.offset and not piece.more:
            return piece
        if not piece.data and piece.more:
            raise Unreadable("empty fragment")  # receivers drop it: it must stand for no other
        datagram = self._waiting.setdefault(piece.key, _Datagram())
        if piece == datagram.pieces.get(piece.offset):
            return None
        start = piece.offset
        if datagram.overlaps(start, start + len(piece.data)) or datagram.contradicts_end(piece):
            raise Refusal("ip-fragment-overlap", f"fragments overlap at {start}")
        datagram.put(piece)
        self._count += 1
        self._held += len(piece.data)
        if datagram.held == datagram.end:
            self._drop(piece.key)
            return datagram.whole()
        self._make_room()
        return None

    def _drop(self, key: tuple[object, ...]) -> int:
        """Forget a datagram; return how many fragments there were of it."""
        datagram = self._waiting.pop(key)
        self._count -= len(datagram.pieces)
        self._held -= datagram.held
        return len(datagram.pieces)

    def _make_room(self) -> None:
        """Forget the oldest, never the only one: its pieces don't overlap, so it has an end."""
        while len(self._waiting) > 1 and (self._count > MOST_FRAGMENTS or self._held > MOST_BYTES):
            self._forgotten += self._drop(next(iter(self._waiting)))
