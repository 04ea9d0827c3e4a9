"""Share one process's memory among its flows: the more there are, the less each reads at once."""

from typing import Final

from filters.inspection.finding import LimitHit
from filters.shares import Shares

READ_MOST, READ_LEAST = (
    256 << 10,
    16 << 10,
)  # bytes at once; the most is what a guest with segmentation offload sends
READ_TOGETHER: Final = 64 << 20  # bytes that all flows together may have read and not sent
KEPT_TOGETHER: Final = 256 << 20  # bytes of objects kept until they are judged: in memory, and in files
HELD_TOGETHER: Final = (
    256 << 20
)  # bytes held back until they are judged, of all flows; no guest gets them all


class Memory:
    """Counts flows, what they hold back, and what they keep of objects."""

    def __init__(self, held_together: int = HELD_TOGETHER, kept_together: int = KEPT_TOGETHER) -> None:
        self._shares = {"held": Shares(held_together), "kept": Shares(kept_together)}
        self._most = {"held": held_together, "kept": kept_together}
        self.flows = 0

    @property
    def read_size(self) -> int:
        """Return how many bytes a flow may read at once now."""
        return max(READ_LEAST, min(READ_MOST, READ_TOGETHER // max(1, self.flows)))

    def count(self, what: str, guests: tuple[str, ...], change: int) -> None:
        """Count bytes `held` back or `kept` between two guests (negative: no longer); raises LimitHit when one has too much of what all may have."""
        if change < 0:
            self._shares[what].give(guests, -change)
        elif change and not self._shares[what].take(guests, change):
            detail = f" bytes {what} by all connections together, or a guest's share of them"
            raise LimitHit(what, self._most[what], detail)
