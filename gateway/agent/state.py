"""How an agent stands with its gateway."""

from enum import StrEnum


class AgentState(StrEnum):
    """The words of `quotegate-agent status`; docs/reasons.md says what they mean."""

    STARTING = "starting"
    UNREACHABLE = "unreachable"
    ATTESTING = "attesting"
    ATTESTED = "attested"
    REFUSED = "refused"
    GATEWAY_REFUSED = "gateway-refused"
    DISCONNECTED = "disconnected"
    PENDING = "pending"
    ENROLLED = "enrolled"
    ENROLLMENT_FAILED = "enrollment-failed"
