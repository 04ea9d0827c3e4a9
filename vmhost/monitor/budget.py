"""Limit how often something may be restarted. Pure; times in seconds."""

from collections import deque
from dataclasses import dataclass, field

from vmhost.errors import HostError


@dataclass(slots=True)
class Budget:
    """At most `limit` uses within `window_s`."""

    limit: int
    window_s: float
    _uses: deque[float] = field(default_factory=deque)

    def take(self, now: float) -> bool:
        """Use one; False when the budget is used up."""
        while self._uses and self._uses[0] <= now - self.window_s:
            self._uses.popleft()
        if len(self._uses) >= self.limit:
            return False
        self._uses.append(now)
        return True

    def spend(self, now: float) -> None:
        """Use one; raises HostError `budget-used-up`."""
        if not self.take(now):
            raise HostError(
                "budget-used-up",
                f"restarted {self.limit} times within {self.window_s:.0f} s; an operator must look at it",
            )
