"""Decide what becomes of a guest whose agent is not heard on its line. Pure: times (s) come in, orders go out.

The gateway restarts guests that it knows and misses. One that hangs before a gateway has let it in is the monitor's to see
to: it is restarted a few times, then switched off. While its agent says every minute that it runs, it waits for a gateway,
or for an operator's approval, as long as that takes. Once it tells of a gateway's audit record, the monitor has done its part.
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
    _known: bool = False  # a gateway has let it in
    _since: float | None = None  # its start or last word; None: it is off, or being restarted
    _restarted: int = 0

    def started(self, now: float) -> None:
        """Note that it runs from now on."""
        self._since = now

    def off(self) -> None:
        """Note that it was switched off: nothing is expected of it, and a later start begins anew."""
        self._since, self._restarted = None, 0

    def heard(self, now: float, *, known: bool) -> None:
        """Note that its agent spoke; known: of a gateway that let it in."""
        self._known |= known
        if self._since is not None:
            self._since = now

    def tick(self, now: float) -> Step | None:
        """Say what to do now; each order is given once."""
        if self._known or self._since is None or now < self._since + self.patience_s:
            return None
        self._since = None
        if self._restarted >= self.restarts:
            return Step.SWITCH_OFF
        self._restarted += 1
        return Step.RESTART
