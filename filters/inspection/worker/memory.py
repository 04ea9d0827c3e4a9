"""Share one process's memory among its flows: the more there are, the less each reads at once."""

from typing import Final

from filters.inspection.finding import LimitHit

READ_MOST, READ_LEAST = (
    256 << 10,
    16 << 10,
)  # bytes at once; the most is what a guest with segmentation offload sends
READ_TOGETHER: Final = 64 << 20  # bytes that all flows together may have read and not sent
HELD_TOGETHER: Final = 256 << 20  # bytes held back until they are judged, of all flows


class Memory:
    """Counts flows and what they hold back."""

    def __init__(self, held_together: int = HELD_TOGETHER) -> None:
        self._most = held_together
        self.flows = self.held = 0

    @property
    def read_size(self) -> int:
        """Return how many bytes a flow may read at once now."""
        return max(READ_LEAST, min(READ_MOST, READ_TOGETHER // max(1, self.flows)))

    def hold(self, change: int) -> None:
        """Count bytes held back (negative: no longer); raises LimitHit when all flows together hold too many."""
        self.held += change
        if change > 0 and self.held > self._most:
            raise LimitHit("held", self._most, " bytes held back by all connections together")
