"""Divide what guests use together, so that none can use up what others need."""

from collections import Counter

_GREED = 3


class Shares:
    """A number of something. Who asks gets while what it has is at most three times what would still be free.

    So one guest alone can have three quarters, two that take what they can three sevenths each, and something is
    always left for who has little (dynamic thresholds: Choudhury and Hahne, 1998). Nothing is set aside for guests
    that ask for nothing.
    """

    def __init__(self, whole: int) -> None:
        self._free = whole
        self._taken: Counter[object] = Counter()

    def take(self, owners: tuple[object, ...], count: int = 1) -> bool:
        """Take for these guests, each as if it took all; False, and nothing is taken, when one has too much."""
        free = self._free - count
        if free < 0 or any(self._taken[one] + count > _GREED * free for one in owners):
            return False
        self._free = free
        self._taken.update(dict.fromkeys(owners, count))
        return True

    def give(self, owners: tuple[object, ...], count: int = 1) -> None:
        """Give back what was taken for these guests."""
        self._free += count
        for one in dict.fromkeys(owners):
            self._taken[one] -= count
            if not self._taken[one]:
                del self._taken[one]
