"""Decide whether a failed peer is restarted once more or quarantined. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from authn.failure import PAST_RESTARTS
from filters.policy.model import OnFail


class Remedy(StrEnum):
    """What to do with a peer that failed."""

    RESTART = "restart"
    QUARANTINE = "quarantine"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Prescription:
    """The remedy and how many restarts are left after it."""

    remedy: Remedy
    left: int


def prescribe(on_fail: OnFail, restarts: Sequence[float], now: float, reason: str = "") -> Prescription:
    """Choose the remedy from the profile's `on_fail` and the times (s) of earlier restarts.

    Restarts older than the window do not count; those of a clock that was set back since do. An exhausted budget means `on_fail.then`, and so does a reason that no restart mends.
    """
    if on_fail.action != Remedy.RESTART:
        return Prescription(Remedy(on_fail.action), 0)
    recent = sum(1 for at in restarts if at > now - on_fail.window_s)
    if recent >= on_fail.max_restarts or reason in PAST_RESTARTS:
        return Prescription(Remedy(on_fail.then), 0)
    return Prescription(Remedy.RESTART, on_fail.max_restarts - recent - 1)
