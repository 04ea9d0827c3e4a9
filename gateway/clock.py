"""The two clocks of the gateway: one for deadlines, one for people."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; passed in, so that tests can move it."""

    def now(self) -> float:
        """Return seconds of CLOCK_BOOTTIME: it counts through suspend and never jumps."""

    def wall(self) -> float:
        """Return seconds since the epoch, for records and expiry dates."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Return seconds of CLOCK_BOOTTIME."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()
