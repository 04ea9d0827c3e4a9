"""Name every reason for which Quotegate drops a packet or refuses a session: exactly one per drop."""

from enum import StrEnum


class DropReason(StrEnum):
    """Why something was dropped. docs/reasons.md has one section per member."""

    NO_RULE = "no-rule"
    DENIED_BY_RULE = "denied-by-rule"
    NOT_ATTESTED = "not-attested"
    NO_SESSION = "no-session"
    LEASE_EXPIRED = "lease-expired"
    HOLD_TIMEOUT = "hold-timeout"
    SPOOFED_SOURCE = "spoofed-source"
    PEER_QUARANTINED = "peer-quarantined"
    SESSION_LIMIT = "session-limit"
    DATA_LEAK = "data-leak"
    MALWARE = "malware"
    PARSE_ERROR = "parse-error"
    UNKNOWN_PROTOCOL = "unknown-protocol"
    RESOURCE_LIMIT = "resource-limit"
    INSPECTOR_DOWN = "inspector-down"
    INSPECTOR_TIMEOUT = "inspector-timeout"
    MIGRATION_HOLD = "migration-hold"
    ADMIN_CUT = "admin-cut"
    AUTHORITY_EXPIRED = "authority-expired"
    COMMUNICATION_DISABLED = "communication-disabled"
