"""The security events of the gateway: what happened, to whom, and why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayStarted:
    """The service came up; every peer has to attest anew."""

    epoch: str


@dataclass(frozen=True, slots=True)
class PeerStateChanged:
    """A peer went from one state to another."""

    peer: str
    before: str
    after: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class HandshakeCompleted:
    """Gateway and peer have attested each other."""

    peer: str
    ip: str
    session_id: str
    pcrs: dict[str, str]
    duration_ms: float


@dataclass(frozen=True, slots=True)
class AttestationFailed:
    """Evidence was refused. `attributable` tells whether the peer itself signed it."""

    peer: str
    ip: str
    reason: str
    detail: str
    attributable: bool


@dataclass(frozen=True, slots=True)
class EnrollmentChanged:
    """A TPM asked to be enrolled, was approved or refused."""

    peer: str
    ip: str
    outcome: str
    ek_fingerprint: str
    detail: str


@dataclass(frozen=True, slots=True)
class SessionGranted:
    """A may talk to a service of B: both proved themselves to nonces of this request."""

    session_id: str
    source: str
    destination: str
    source_ip: str
    destination_ip: str
    protocol: int
    port: int
    rule: str
    lease_ms: int
    opened_by: str
    would_deny: str = ""


@dataclass(frozen=True, slots=True)
class SessionRefused:
    """A session was asked for and not granted."""

    source: str
    destination: str
    service: str
    reason: str
    detail: str
    rule: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A session ended: its lease is gone from the kernel."""

    session_id: str
    source: str
    destination: str
    reason: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """B's agent confirmed what B's kernel received of A's connection."""

    session_id: str
    source: str
    destination: str
    bytes_sent: int
    bytes_received: int
    complete: bool


@dataclass(frozen=True, slots=True)
class FlowDropped:
    """Packets of one flow were dropped, all for the same reason."""

    source_ip: str
    destination_ip: str
    protocol: int
    source_port: int
    destination_port: int
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class PacketsDropped:
    """More packets of one source were dropped for one reason than are recorded by flow; "" stands for addresses nobody has."""

    source_ip: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class ContentFound:
    """An inspector found something in a flow that a rule inspects; `evidence` is redacted. `cuts`: the flow ended with it."""

    source_ip: str
    source_port: int
    destination_ip: str
    destination_port: int
    protocol: int
    rule: str
    spoken: str
    direction: str
    reason: str
    check: str
    detail: str
    inside: str
    offset: int
    evidence: str
    cuts: bool = True


@dataclass(frozen=True, slots=True)
class MaterialTaken:
    """An inspector took the operator's files: those in use, those that can't be and why, and what in them is not in force."""

    files: tuple[str, ...]
    bad: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InspectorSilent:
    """An inspector gave no sign of life for too long: whoever started it was asked to end it and to start another."""

    pid: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class PeerRemedied:
    """A failed peer was restarted, quarantined or released."""

    peer: str
    remedy: str
    reason: str
    restarts_left: int


@dataclass(frozen=True, slots=True)
class AuthorityChanged:
    """An administrator granted or revoked authority, or it expired."""

    outcome: str
    sequence: int
    not_after: float
    actor: str


@dataclass(frozen=True, slots=True)
class PolicyApplied:
    """Another policy is in force, or one on probation was confirmed: `outcome` says how it came about."""

    revision: str
    previous: str
    actor: str
    sessions_cut: int
    outcome: str


@dataclass(frozen=True, slots=True)
class PolicyClosed:
    """The policy that should be in force can't be taken up: none is in force, and nothing passes. `revision` is the stored one's."""

    revision: str
    detail: str


@dataclass(frozen=True, slots=True)
class AuditRecordLost:
    """At its start the service found fewer signed heads than its TPM had signed: the record is not the one it left."""

    signed: int
    newest: int


@dataclass(frozen=True, slots=True)
class AuditPruned:
    """An operator took older records elsewhere: from now on the record begins after number `through`, whose chain hash is `hash`."""

    through: int
    hash: str
    actor: str


@dataclass(frozen=True, slots=True)
class AuditFilling:
    """The audit record's disk has little room left; when it is full nobody is trusted any more."""

    room_mib: int
    detail: str


@dataclass(frozen=True, slots=True)
class DriftRepaired:
    """Packet filtering was changed behind our back. `repaired`: our own table is as it should be."""

    detail: str
    repaired: bool


@dataclass(frozen=True, slots=True)
class EventsLost:
    """Observations were lost before they could be recorded; enforcement is not affected."""

    what: str
    count: int


@dataclass(frozen=True, slots=True)
class EventsCounted:
    """What went on record as a number, because there was too much of it to record one by one."""

    what: str
    count: int


@dataclass(frozen=True, slots=True)
class GatewayProved:
    """The gateway passed its self-test: what it checked."""

    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GatewayUpdated:
    """An update's story ended, as the host tells it: `blessed`, `fell-back`, or `committed` (no older version any more)."""

    outcome: str
    version: int
    detail: str


Event = (
    GatewayStarted
    | GatewayProved
    | GatewayUpdated
    | PeerStateChanged
    | HandshakeCompleted
    | AttestationFailed
    | EnrollmentChanged
    | SessionGranted
    | SessionRefused
    | SessionClosed
    | Delivered
    | FlowDropped
    | PacketsDropped
    | ContentFound
    | MaterialTaken
    | InspectorSilent
    | PeerRemedied
    | AuditRecordLost
    | AuditPruned
    | AuditFilling
    | AuthorityChanged
    | PolicyApplied
    | PolicyClosed
    | DriftRepaired
    | EventsLost
    | EventsCounted
)
