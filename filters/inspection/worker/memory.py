"""Share one process's memory among its flows: the more there are, the less each reads at once."""

from typing import Final

from filters.inspection.finding import LimitHit
from filters.shares import Shares

READ_MOST, READ_LEAST = (
    256 << 10,
    16 << 10,
)  # bytes at once; the most is what a guest with segmentation offload sends
READ_TOGETHER: Final = 64 << 20  # bytes that all flows together may have read and not sent
HELD_TOGETHER: Final = (
    256 << 20
)  # bytes held back until they are judged, of all flows; no guest gets them all


class Memory:
    """Counts flows and what they hold back."""

    def __init__(self, held_together: int = HELD_TOGETHER) -> None:
        self._most, self._held = held_together, Shares(held_together)
        self.flows = 0

    @property
    def read_size(self) -> int:
        """Return how many bytes a flow may read at once now."""
        return max(READ_LEAST, min(READ_MOST, READ_TOGETHER // max(1, self.flows)))

    def hold(self, guests: tuple[str, ...], change: int) -> None:
        """Count bytes held back between two guests (negative: no longer); raises LimitHit when one has too much of what all may hold."""
        if change < 0:
            self._held.give(guests, -change)
        elif not self._held.take(guests, change):
            detail = " bytes held back by all connections together, or a guest's share of them"
            raise LimitHit("held", self._most, detail)
