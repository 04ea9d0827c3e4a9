"""Charge bad behaviour on the control port to the place it came from. Pure; times in seconds."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

BURST = 5.0
REFILL_PER_S = 1.0


@dataclass(slots=True)
class _Place:
    tokens: float = BURST
    updated: float = 0.0
    in_flight: int = 0


@dataclass(slots=True)
class PlaceLimits:
    """One handshake in flight per place, and a token bucket that failures empty."""

    _places: dict[IPv4Address, _Place] = field(default_factory=dict)

    def admit(self, ip: IPv4Address, now: float) -> bool:
        """Take up a handshake from `ip`; False when one is in flight or its bucket is empty."""
        place = self._refilled(ip, now)
        if place.in_flight or place.tokens < 1:
            return False
        place.in_flight = 1
        return True

    def done(self, ip: IPv4Address, now: float, *, failed: bool) -> None:
        """End the handshake that was taken up; a failed one costs a token."""
        place = self._refilled(ip, now)
        place.in_flight = 0
        if failed:
            place.tokens -= 1

    def _refilled(self, ip: IPv4Address, now: float) -> _Place:
        place = self._places.setdefault(ip, _Place(updated=now))
        place.tokens = min(BURST, place.tokens + (now - place.updated) * REFILL_PER_S)
        place.updated = now
        return place
