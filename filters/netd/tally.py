"""Keep drop counters growing although the kernel's begin anew whenever the table is replaced. Pure."""

from collections.abc import Mapping

from filters.reason import DropReason
from filters.ruleset.names import COUNTERS


class Tally:
    """Packets dropped by reason, over all tables there have been."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def update(self, kernel: Mapping[str, int]) -> None:
        """Take a reading; one below the last means that the table was replaced in between."""
        for name in COUNTERS:
            packets, last = kernel.get(name, 0), self._last.get(name, 0)
            if packets < last:
                self._before[name] = self._before.get(name, 0) + last
            self._last[name] = packets

    def begin_anew(self) -> None:
        """Note that the table was replaced after the last reading: what its counters say now comes on top."""
        self.update({})

    def total(self, own: Mapping[DropReason, int]) -> dict[DropReason, int]:
        """Return all reasons' packets, those that netd itself dropped included."""
        counted = {
            reason: self._before.get(name, 0) + self._last.get(name, 0) for name, reason in COUNTERS.items()
        }
        for reason, packets in own.items():
            counted[reason] = counted.get(reason, 0) + packets
        return counted
