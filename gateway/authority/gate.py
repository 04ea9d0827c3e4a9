"""The gate of authority: an administrator-signed grant, in sequence, not expired. Pure.

Without one no guest-to-guest traffic exists. A grant names role and scope; a user's grant opens nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authn.signing import DocumentError, SignedDocument, sign_document, verify_document
from filters.policy.evaluator import AuthorityState

KIND = "authority"
SCOPE = "communication"
ADMINISTRATOR, USER = "administrator", "user"


def create_grant(
    sequence: int, not_after: float, key: Any, role: str = ADMINISTRATOR, scope: str = SCOPE
) -> bytes:
    """Sign a grant with the administrator's Ed25519 key; `not_after` in seconds since the epoch."""
    return sign_document(KIND, sequence, not_after, {"role": role, "scope": scope}, key)


@dataclass(slots=True)
class AuthorityGate:
    """What is in force now. `sequence` is the highest ever accepted; lower or equal ones are replays."""

    keys: Mapping[str, bytes]
    sequence: int = 0
    not_after: float | None = None

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
        return grant

    def accept(self, grant: SignedDocument) -> None:
        """Take up a checked grant."""
        self.sequence, self.not_after = grant.version, grant.not_after

    def revoke(self) -> None:
        """Withdraw what is in force; the sequence stays, so the same grant does not come back."""
        self.not_after = None

    def state(self, now: float) -> AuthorityState:
        """Tell what holds at `now`."""
        if self.not_after is None:
            return AuthorityState.ABSENT
        return AuthorityState.VALID if now <= self.not_after else AuthorityState.EXPIRED
