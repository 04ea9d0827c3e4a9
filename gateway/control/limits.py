"""Charge bad behaviour on the control port to the place it came from. Pure; times in seconds."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

BURST = 5.0
REFILL_PER_S = 1.0
# good handshakes and enrollments cost the gateway work too; far more than restarts and broken lines ever cause
GOOD, GOOD_PER_S = 1000.0, 2.0
# logs and lists are judged entry by entry, while everybody else waits
FAILED_BYTES, GOOD_BYTES = 128 << 10, 32 << 10  # that cost as much as one more


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

    def take(self, now: float, amount: float = 1.0) -> float:
        """Take a token, or more; return for how many seconds the taker has to wait for it."""
        self.tokens = self.at(now) - amount
        return max(0.0, -self.tokens / self.refill_per_s)


@dataclass(slots=True)
class _Place:
    failures: Bucket
    good: Bucket
    in_flight: int = 0

    def may_try(self, now: float) -> bool:
        return not self.in_flight and self.failures.at(now) >= 1 and self.good.at(now) >= 1


@dataclass(slots=True)
class PlaceLimits:
    """One handshake in flight per place, a token bucket that failures empty, and a large one for those that are good."""

    _places: dict[IPv4Address, _Place] = field(default_factory=dict)

    def admit(self, ip: IPv4Address, now: float) -> bool:
        """Take up a handshake from `ip`; False when one is in flight or one of its buckets is empty."""
        place = self._places.get(ip)
        if place is None:
            buckets = Bucket.full(BURST, REFILL_PER_S, now), Bucket.full(GOOD, GOOD_PER_S, now)
            place = self._places[ip] = _Place(*buckets)
        if not place.may_try(now):
            return False
        place.in_flight = 1
        return True

    def done(self, ip: IPv4Address, now: float, *, failed: bool, received: int = 0) -> None:
        """End the handshake that was taken up; it costs a token of its kind, and more the more bytes it brought."""
        place = self._places[ip]
        place.in_flight = 0
        if failed:
            place.failures.take(now, 1 + received / FAILED_BYTES)
        else:
            place.good.take(now, 1 + received / GOOD_BYTES)
