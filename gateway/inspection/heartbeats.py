"""Decide which inspectors have fallen silent. Pure: signs of life and times (s) come in, who is silent goes out.

An inspector that hangs in its own work is ended by the kernel after 10 s (`HANG_S` of the worker). Who is silent for longer
was stopped from outside, or waits in the kernel for ever.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

SILENT_S: Final = 12.0
FIRST_WITHIN_S: Final = 600.0  # thousands of rules have to be compiled first, maybe by an emulated processor
LOOK_EVERY_S: Final = 1.0
AWAY_S: Final = 3.0

Who = TypeVar("Who", bound=Hashable)


class Heartbeats(Generic[Who]):
    """Until when each has to give its next sign of life."""

    def __init__(self, now: float) -> None:
        self._due: dict[Who, float] = {}
        self._looked = now

    def expect(self, who: Who, now: float) -> None:
        """Expect a first sign of life."""
        self._due[who] = now + FIRST_WITHIN_S

    def beat(self, who: Who, now: float) -> None:
        """Take a sign of life."""
        if who in self._due:
            self._due[who] = now + SILENT_S

    def forget(self, who: Who) -> None:
        """Expect nothing more of somebody."""
        self._due.pop(who, None)

    def silent(self, now: float) -> list[Who]:
        """Return who has been silent for too long, once; ask every LOOK_EVERY_S.

        Who asks late was away itself: what was said meanwhile is unread, so everybody is given time anew.
        """
        if now - self._looked > AWAY_S:
            self._due = {who: max(due, now + SILENT_S) for who, due in self._due.items()}
        self._looked = now
        found = [who for who, due in self._due.items() if due <= now]
        for who in found:
            self.forget(who)
        return found
