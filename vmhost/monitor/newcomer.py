"""Decide what becomes of a guest whose agent was never heard on its line. Pure: times (s) come in, orders go out.

The gateway restarts guests that it knows and misses. One that hangs before its agent ever ran is unknown to it, and the
monitor's to see to: it is restarted a few times, then switched off. Once its agent was heard, the monitor has done its part.
"""

from dataclasses import dataclass
from enum import StrEnum

PATIENCE_S = (
    300.0  # several times what an emulated processor needs, with a lab's machines booting side by side
)
RESTARTS = 3


class Step(StrEnum):
    """What is to be done with such a guest."""

    RESTART = "restart"
    SWITCH_OFF = "switch off"


@dataclass(slots=True)
class Newcomer:
    """One guest, which is off."""

    patience_s: float = PATIENCE_S
    restarts: int = RESTARTS
    _heard: bool = False
    _started: float | None = None  # None: it is off, or being restarted
    _restarted: int = 0

    def started(self, now: float) -> None:
        """Note that it runs from now on."""
        self._started = now

    def off(self) -> None:
        """Note that it was switched off: nothing is expected of it, and a later start begins anew."""
        self._started, self._restarted = None, 0

    def heard(self) -> None:
        """Note that its agent spoke."""
        self._heard = True

    def tick(self, now: float) -> Step | None:
        """Say what to do now; each order is given once."""
        if self._heard or self._started is None or now < self._started + self.patience_s:
            return None
        self._started = None
        if self._restarted >= self.restarts:
            return Step.SWITCH_OFF
        self._restarted += 1
        return Step.RESTART
