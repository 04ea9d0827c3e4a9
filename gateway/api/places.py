"""Give every caller a share: whatever one uid asks for, the others get in and are answered."""

from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager

from gateway.errors import GatewayError

MOST_OF_ONE = 32
MOST_OF_ALL = 128


class Busy(GatewayError):
    """The caller has its share already, or those who may only read have theirs; nothing was done."""


class Places:
    """Count what is under way, by uid. Who may change things (`free`) always finds a place."""

    def __init__(self, what: str, free: Set[int]) -> None:
        self._what, self._free = what, free
        self._taken: Counter[int] = Counter()

    def take(self, uid: int) -> None:
        """Take a place; raises Busy. Each is left again with `leave`."""
        if uid in self._free:
            return
        for whose, taken, most in (
            (f"uid {uid} has", self._taken[uid], MOST_OF_ONE),
            ("those who may only read have", self._taken.total(), MOST_OF_ALL),
        ):
            if taken >= most:
                message = f"places: {whose} {taken} {self._what} already, expected at most {most}; try again when one has ended"
                raise Busy("busy", message)
        self._taken[uid] += 1

    def leave(self, uid: int) -> None:
        """Leave a place that was taken."""
        if uid in self._free:
            return
        self._taken[uid] -= 1
        if not self._taken[uid]:
            del self._taken[uid]

    @contextmanager
    def taken(self, uid: int) -> Iterator[None]:
        """Hold a place; raises Busy."""
        self.take(uid)
        try:
            yield
        finally:
            self.leave(uid)
