"""Charge bad behaviour on the control port to the place it came from. Pure; times in seconds."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

BURST = 5.0
REFILL_PER_S = 1.0


MESSAGES_PER_S = 500.0
MESSAGES_AT_ONCE = 1000.0


@dataclass(slots=True)
class Bucket:
    """Tokens that refill with time, up to `burst`; may be overdrawn."""

    burst: float
    refill_per_s: float
    tokens: float
    updated: float

    @classmethod
    def full(cls, burst: float, refill_per_s: float, now: float) -> "Bucket":
        """Begin with everything."""
        return cls(burst, refill_per_s, burst, now)

    def at(self, now: float) -> float:
        """Return the tokens there are at `now`."""
        self.tokens = min(self.burst, self.tokens + (now - self.updated) * self.refill_per_s)
        self.updated = now
        return self.tokens

    def take(self, now: float) -> float:
        """Take one token; return for how many seconds the taker has to wait for it."""
        self.tokens = self.at(now) - 1
        return max(0.0, -self.tokens / self.refill_per_s)


@dataclass(slots=True)
class _Place:
    bucket: Bucket
    in_flight: int = 0


@dataclass(slots=True)
class PlaceLimits:
    """One handshake in flight per place, and a token bucket that failures empty."""

    _places: dict[IPv4Address, _Place] = field(default_factory=dict)

    def admit(self, ip: IPv4Address, now: float) -> bool:
        """Take up a handshake from `ip`; False when one is in flight or its bucket is empty."""
        place = self._places.setdefault(ip, _Place(Bucket.full(BURST, REFILL_PER_S, now)))
        if place.in_flight or place.bucket.at(now) < 1:
            return False
        place.in_flight = 1
        return True

    def done(self, ip: IPv4Address, now: float, *, failed: bool) -> None:
        """End the handshake that was taken up; a failed one costs a token."""
        place = self._places[ip]
        place.in_flight = 0
        if failed:
            place.bucket.take(now)
