"""Bound what others can have recorded at will: one by one up to a rate, and a count of what is beyond it. Pure."""

from collections import Counter

from gateway.control.limits import Bucket


class Allowance:
    """Events that go on record one by one, by who causes them. Who takes the counts puts them on record."""

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._buckets: dict[str, Bucket] = {}
        self._counts: Counter[str] = Counter()

    def permits(self, who: str, now: float) -> bool:
        """Tell whether one more event goes on record; False: it was counted."""
        bucket = self._buckets.setdefault(who, Bucket.full(self._burst, self._per_s, now))
        if bucket.at(now) < 1:
            self._counts[who] += 1
            return False
        bucket.take(now)
        return True

    def take_counts(self) -> dict[str, int]:
        """Return how many were counted instead since the last call."""
        counts, self._counts = dict(self._counts), Counter()
        return counts
