"""Why sessions end, where neither a drop reason nor an attestation failure says it."""

from enum import StrEnum


class SessionEnd(StrEnum):
    """The words of `session-closed` that docs/reasons.md lists under the ends of sessions."""

    POLICY_CHANGED = "policy-changed"
    PEER_DISCONNECTED = "peer-disconnected"
    REPLACED = "replaced"
