"""Decide when the gateway's processes are ended and started again. Pure: times (s) come in, orders go out.

The gateway's processes are one unit: when one dies, all are ended and, after a pause, all are started; the pause
doubles, up to a minute, until it answers again. When the unit runs but does not answer, it is restarted. What a guest reports costs budget; what the monitor sees
itself does not. While a restart is under way nothing else is ordered.
"""

from dataclasses import dataclass
from enum import StrEnum

from vmhost.monitor.budget import Budget

BACKOFF_S, MOST_BACKOFF_S = 1.0, 60.0
PROBE_EVERY_S = 1.0
MISSES = 3


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the gateway whether it is well, and tell `probed`."""


@dataclass(frozen=True, slots=True)
class End:
    """End the processes that are left."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start all processes again; with `reset_tpm` the machine. Tell `restarting`, then `started`."""

    reason: str
    reset_tpm: bool


Order = Probe | End | Restart | None


class Phase(StrEnum):
    """How far the unit is."""

    CHANGING = "changing"
    UP = "up"
    DOWN = "down"
    STOPPED = "stopped"


@dataclass(slots=True)
class GatewayUnit:
    """The gateway's processes, as the monitor sees them. Begins while they are being started."""

    budget: Budget
    most_misses: int = MISSES
    phase: Phase = Phase.CHANGING
    paused: bool = False
    _down_since: float = 0.0
    _backoff_s: float = BACKOFF_S
    _next_probe: float = 0.0
    _misses: int = 0

    def restarting(self) -> None:
        """Note that processes are being started or ended on purpose."""
        if self.phase is not Phase.STOPPED:
            self.phase = Phase.CHANGING

    def started(self, now: float) -> None:
        """Note that this is over, well or not: a unit that did not come up shows in the next `tick`."""
        if self.phase is not Phase.STOPPED:
            self.phase, self._misses, self._next_probe = Phase.UP, 0, now + PROBE_EVERY_S

    def stop(self) -> None:
        """Order nothing any more."""
        self.phase = Phase.STOPPED

    def tick(self, now: float, alive: bool) -> Order:
        """Say what to do now; `alive`: every process runs."""
        if self.paused or self.phase in (Phase.CHANGING, Phase.STOPPED):
            return None
        if not alive and self.phase is Phase.UP:
            self.phase, self._down_since = Phase.DOWN, now
            return End()
        if self.phase is Phase.DOWN:
            if now < self._down_since + self._backoff_s:
                return None
            self._backoff_s = min(2 * self._backoff_s, MOST_BACKOFF_S)
            return Restart("a process of the gateway died", False)
        if now < self._next_probe:
            return None
        self._next_probe = now + PROBE_EVERY_S
        return Probe()

    def probed(self, healthy: bool) -> Order:
        """Take the answer to a probe. One that arrives after the unit went down means nothing."""
        if self.paused or self.phase is not Phase.UP:
            return None
        self._misses = 0 if healthy else self._misses + 1
        self._backoff_s = BACKOFF_S if healthy else self._backoff_s
        return Restart("the gateway did not answer", False) if self._misses >= self.most_misses else None

    def refused(self, peer: str, reason: str, now: float) -> Restart | None:
        """Take a guest's word that the gateway can't be trusted. None: that is being seen to already.

        Raises HostError `budget-used-up` when reports have restarted it too often.
        """
        if self.phase in (Phase.CHANGING, Phase.STOPPED):
            return None
        self.budget.spend(now)
        return Restart(f"{peer} refused it: {reason}", True)
