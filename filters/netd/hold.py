"""Keep count of held first packets: who waits for what, for how long, and within which bounds. Pure.

Times are monotonic seconds and passed in. A hold is one flow key; the first packets of several connections
with this key wait in it together and share its end.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from filters.flow import FlowKey
from filters.netd.packet import PacketFlow
from filters.reason import DropReason


@dataclass(frozen=True, slots=True)
class HoldBounds:
    """How many packets may wait and how long; the time stays below a SYN's retransmission (1 s)."""

    per_peer: int = 16
    total: int = 1024
    seconds: float = 0.8


BOUNDS: Final = HoldBounds()


@dataclass(slots=True)
class Hold:
    """Packets that wait for one key: packet ids of the queue by what tells their connections apart."""

    hold_id: int
    key: FlowKey
    expires_at: float
    packets: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The packet is held; `first` tells whether this opened the hold."""

    hold_id: int
    first: bool


@dataclass(frozen=True, slots=True)
class Excess:
    """The packet may not wait: a bound is reached."""

    reason: DropReason


class HoldBook:
    """All holds. Every packet id given in comes out once: by `take`, `expired` or `clear`."""

    def __init__(self, bounds: HoldBounds = BOUNDS) -> None:
        self._bounds = bounds
        self._holds: OrderedDict[int, Hold] = OrderedDict()  # in order of expiry: all wait equally long
        self._by_key: dict[FlowKey, Hold] = {}
        self._per_peer: dict[IPv4Address, int] = {}
        self._total = 0
        self._last_id = 0

    def __len__(self) -> int:
        return self._total

    def offer(self, packet_id: int, flow: PacketFlow, now: float) -> Waiting | Excess:
        """Take a packet in, or say that it may not wait."""
        hold = self._by_key.get(flow.key)
        waiting = self._per_peer.get(flow.key.source, 0)
        full = waiting >= self._bounds.per_peer or self._total >= self._bounds.total
        if full or (hold and flow.discriminator in hold.packets):
            return Excess(DropReason.RESOURCE_LIMIT)
        first = hold is None
        if hold is None:
            self._last_id += 1
            hold = Hold(self._last_id, flow.key, now + self._bounds.seconds)
            self._holds[hold.hold_id] = self._by_key[flow.key] = hold
        hold.packets[flow.discriminator] = packet_id
        self._per_peer[flow.key.source] = waiting + 1
        self._total += 1
        return Waiting(hold.hold_id, first)

    def take(self, hold_id: int) -> Hold | None:
        """End a hold; None when there is none (any more)."""
        hold = self._holds.pop(hold_id, None)
        if hold is None:
            return None
        del self._by_key[hold.key]
        left = self._per_peer[hold.key.source] - len(hold.packets)
        if left:
            self._per_peer[hold.key.source] = left
        else:
            del self._per_peer[hold.key.source]
        self._total -= len(hold.packets)
        return hold

    def expired(self, now: float) -> list[Hold]:
        """End the holds whose time is over and return them, oldest first."""
        due = []
        for hold in self._holds.values():
            if hold.expires_at > now:
                break
            due.append(hold)
        for hold in due:
            self.take(hold.hold_id)
        return due

    def next_expiry(self) -> float | None:
        """Say when `expired` will next have something, None when nothing waits."""
        return next(iter(self._holds.values())).expires_at if self._holds else None

    def clear(self) -> list[Hold]:
        """End all holds and return them."""
        holds = list(self._holds.values())
        for hold in holds:
            self.take(hold.hold_id)
        return holds
