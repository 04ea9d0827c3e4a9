"""Hold every peer's live record: its state, why, its link and when it was last proved."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from authn.evidence import Counters
from authn.portmap import PortEntry
from gateway.registry.states import PeerState, Trigger, next_state

if TYPE_CHECKING:
    from gateway.control.link import PeerLink

Listener = Callable[["PeerRecord", PeerState, str], None]


@dataclass(slots=True)
class PeerRecord:
    """One peer as it is now; `reason` says why it is in its state. Times are seconds of CLOCK_BOOTTIME."""

    name: str
    place: PortEntry
    state: PeerState = PeerState.UNKNOWN
    reason: str = ""
    detail: str = ""
    link: "PeerLink | None" = None
    last_quote_at: float | None = None
    counters: Counters | None = None
    pcr_values: dict[int, bytes] = field(default_factory=dict)
    session_id: str = ""
    silent_since: float | None = None
    # True while its machine is being restarted: what comes from it now is its former life
    going_down: bool = False
    excused_at: float | None = None  # when it last signed what was refused for nothing that it could mend

    @property
    def ip(self) -> IPv4Address:
        """The pinned address."""
        return self.place.ip

    @property
    def trusted(self) -> bool:
        """True only between a full pass and the first failure or silence."""
        return self.state is PeerState.TRUSTED and self.link is not None


class Registry:
    """All peers of the port map, by name and by address."""

    def __init__(self, places: tuple[PortEntry, ...], listener: Listener) -> None:
        self._by_name = {place.peer: PeerRecord(place.peer, place) for place in places}
        self._by_ip = {record.ip: record for record in self._by_name.values()}
        self._listener = listener

    def __iter__(self) -> Iterator[PeerRecord]:
        return iter(self._by_name.values())

    def by_name(self, name: str) -> PeerRecord | None:
        """Find a peer by its name (without the platform)."""
        return self._by_name.get(name)

    def by_ip(self, ip: IPv4Address) -> PeerRecord | None:
        """Find a peer by its pinned address."""
        return self._by_ip.get(ip)

    def move(self, peer: PeerRecord, trigger: Trigger, reason: str = "", detail: str = "") -> PeerState:
        """Take the peer to its next state and tell the listener when that changed; raises GatewayError."""
        before, peer.state = peer.state, next_state(peer.state, trigger)
        if peer.state is not before or reason:
            peer.reason, peer.detail = reason, detail
        if peer.state is not before:
            self._listener(peer, before, str(trigger))
        return peer.state
