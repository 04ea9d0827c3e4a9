"""The gate of authority: an administrator-signed grant, in sequence, not expired. Pure.

Without one no guest-to-guest traffic exists. A grant names role and scope; a user's grant opens nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authn.signing import DocumentError, SignedDocument, sign_document, verify_document
from filters.policy.evaluator import AuthorityState

KIND = "authority"
SCOPE = "communication"
ADMINISTRATOR = "administrator"
CLOCK_SLACK_S = 2.0
LONGEST_S = 10 * 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by both clocks: `wall` in seconds since the epoch (it may jump), `boot` of CLOCK_BOOTTIME (it can't)."""

    wall: float
    boot: float


def create_grant(
    sequence: int,
    not_after: float,
    key: Any,
    role: str = ADMINISTRATOR,
    scope: str = SCOPE,
    not_before: float = 0.0,
) -> bytes:
    """Sign a grant with the administrator's Ed25519 key; its times are seconds since the epoch."""
    return sign_document(
        KIND, sequence, not_after, {"role": role, "scope": scope, "not_before": not_before}, key
    )


@dataclass(slots=True)
class AuthorityGate:
    """What is in force now. `sequence` is the highest ever accepted; lower or equal ones are replays.

    A grant ends when either clock says so, and has then ended for good: setting a clock prolongs nothing.
    """

    keys: Mapping[str, bytes]
    sequence: int = 0
    not_after: float | None = None
    deadline: float = 0.0

    def check(self, untrusted_grant: bytes, now: float) -> SignedDocument:
        """Verify a grant without taking it up; raises DocumentError naming the check."""
        grant = verify_document(untrusted_grant, KIND, self.keys, now)
        if grant.version <= self.sequence:
            raise DocumentError(
                "replayed",
                f"grant {grant.version} was used or overtaken; sign one with a sequence above {self.sequence}",
            )
        if grant.payload.get("scope") != SCOPE:
            raise DocumentError(
                "out-of-scope", f"the grant is for {grant.payload.get('scope')!r}, expected {SCOPE!r}"
            )
        if grant.payload.get("role") != ADMINISTRATOR:
            raise DocumentError("wrong-role", "only an administrator's grant permits communication")
        _check_times(grant, now)
        return grant

    def accept(self, grant: SignedDocument, now: Moment) -> None:
        """Take up a checked grant."""
        self.sequence = grant.version
        self.hold(grant.not_after, now)

    def hold(self, not_after: float, now: Moment, deadline: float = math.inf) -> None:
        """Let a grant stand until either of its ends."""
        self.not_after = not_after
        self.deadline = min(deadline, now.boot + not_after - now.wall)

    def expire(self) -> None:
        """End the grant for good, whatever the clocks say later."""
        self.deadline = -math.inf

    def revoke(self) -> None:
        """Withdraw what is in force; the sequence stays, so the same grant does not come back."""
        self.not_after = None

    def state(self, now: Moment) -> AuthorityState:
        """Tell what holds at `now`."""
        if self.not_after is None:
            return AuthorityState.ABSENT
        within = now.wall <= self.not_after and now.boot <= self.deadline
        return AuthorityState.VALID if within else AuthorityState.EXPIRED


def _check_times(grant: SignedDocument, now: float) -> None:
    begins = grant.payload.get("not_before")
    if isinstance(begins, bool) or not isinstance(begins, int | float):
        raise DocumentError("malformed", f"`not_before` must be a time, got {begins!r}")
    if not begins <= now + CLOCK_SLACK_S:
        raise DocumentError(
            "from-the-future",
            f"the grant begins in {begins - now:.0f} s; compare the clocks of both machines",
        )
    if grant.not_after > now + LONGEST_S:
        raise DocumentError("too-long", f"a grant holds for at most {LONGEST_S / 86_400:.0f} days")
