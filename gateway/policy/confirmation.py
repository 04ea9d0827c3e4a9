"""Wait for an operator's word that a new policy is right; without it the former one returns. Pure; times in seconds."""

from dataclasses import dataclass

from gateway.errors import GatewayError

MIN_WITHIN_S, MAX_WITHIN_S = 1.0, 3600.0
_ANY_FLOAT = 1e300  # a request's whole number may be larger than any


@dataclass(frozen=True, slots=True)
class Pending:
    """A policy on probation: `fallback` is the number of the revision that returns at `deadline`."""

    fallback: int
    deadline: float


class Confirmation:
    """At most one policy is on probation, and nothing else changes the policy meanwhile."""

    def __init__(self) -> None:
        self.pending: Pending | None = None

    @staticmethod
    def check_within(seconds: float) -> None:
        """Refuse a time that nobody can keep, or that is no probation; raises GatewayError."""
        if not MIN_WITHIN_S <= seconds <= MAX_WITHIN_S:
            raise GatewayError(
                "bad-duration",
                f"the time to confirm must be {MIN_WITHIN_S:.0f} s to {MAX_WITHIN_S / 3600:.0f} h, "
                f"got {max(-_ANY_FLOAT, min(seconds, _ANY_FLOAT)):g} s",
            )

    def check_free(self, now: float) -> None:
        """Refuse another change while one waits; raises GatewayError `confirmation-pending`."""
        if self.pending is not None:
            left = max(0.0, self.pending.deadline - now)
            raise GatewayError(
                "confirmation-pending",
                f"the policy in force waits {left:.0f} s more to be confirmed; first: quotegate policy confirm, or: "
                "quotegate policy rollback",
            )

    def begin(self, fallback: int, deadline: float) -> None:
        """Put the policy in force on probation."""
        self.pending = Pending(fallback, deadline)

    def check_waits(self, now: float) -> None:
        """Make sure that one waits; raises GatewayError `nothing-to-confirm`, also when it is too late."""
        if self.pending is None or now >= self.pending.deadline:
            raise GatewayError(
                "nothing-to-confirm", "no policy waits to be confirmed; see: quotegate policy history"
            )

    def take_due(self, now: float) -> int | None:
        """Return the revision that has to come back now, and end the probation."""
        if self.pending is None or now < self.pending.deadline:
            return None
        fallback, self.pending = self.pending.fallback, None
        return fallback

    def end(self) -> None:
        """End the probation: its policy is confirmed, or another one is in force."""
        self.pending = None
