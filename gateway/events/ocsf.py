"""Put events into OCSF 1.8 JSON: the canonical form that is recorded and shown.

Flows are class 4001, attestation and login 3002, enrollment 3004, findings 2004, quarantine and restart
7001/7004, configuration and life of the service 6002. What OCSF has no place for is in `unmapped`.
"""

import dataclasses
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from gateway.events import model
from gateway.events.community_id import community_id
from gateway.events.plain import shortened

VERSION = "1.8.0"
INFORMATIONAL, LOW, MEDIUM, HIGH = 1, 2, 3, 4
SUCCESS, FAILURE = 1, 2
MAX_DETAIL = 2048  # characters; a name that a peer chose may be in it, and it is recorded three times


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every record has around its event."""

    sequence: int
    time_ms: int
    gateway_id: str
    policy_revision: str


@dataclass(frozen=True, slots=True)
class _Kind:
    class_uid: int
    activity_id: int
    severity_id: int
    status_id: int


def _outcome(class_uid: int, activity_id: int, *, good: bool, severity: int = MEDIUM) -> _Kind:
    return _Kind(class_uid, activity_id, INFORMATIONAL if good else severity, SUCCESS if good else FAILURE)


def _kind(event: model.Event) -> _Kind:  # noqa: C901, PLR0912 - one line per event is the clearest form
    match event:
        case model.SessionGranted():
            return _outcome(4001, 1, good=True)
        case model.SessionClosed():
            return _outcome(4001, 2, good=True)
        case model.Delivered(complete=complete):
            return _outcome(4001, 6, good=complete, severity=LOW)
        case model.SessionRefused() | model.FlowDropped() | model.PacketsDropped():
            return _outcome(4001, 5, good=False, severity=LOW)
        case model.HandshakeCompleted():
            return _outcome(3002, 1, good=True)
        case model.AttestationFailed():
            return _outcome(3002, 1, good=False, severity=HIGH)
        case model.PeerStateChanged():
            return _outcome(3002, 99, good=True)
        case model.AuthorityChanged(outcome=outcome):
            return _outcome(3002, 1 if outcome == "granted" else 2, good=True)
        case model.EnrollmentChanged(outcome=outcome):
            return _outcome(3004, 1, good=outcome != "refused")
        case model.ContentFound() | model.DriftRepaired() | model.EventsLost() | model.AuditRecordLost():
            return _outcome(2004, 1, good=False, severity=HIGH)
        case model.EventsCounted():
            return _Kind(6002, 99, LOW, SUCCESS)
        case model.PeerRemedied(remedy=remedy):
            return _outcome(7004 if remedy == "restart" else 7001, 1, good=True)
        case model.MaterialTaken(bad=bad):
            return _outcome(6002, 3, good=not bad, severity=HIGH if bad else LOW)
        case model.InspectorSilent():
            return _outcome(6002, 4, good=False, severity=HIGH)
        case model.GatewayUpdated(outcome=outcome):
            return _outcome(6002, 3, good=outcome != "fell-back", severity=HIGH)
        case model.AuditFilling() | model.PolicyClosed():
            return _outcome(6002, 99, good=False, severity=HIGH)
        case model.AuditPruned() | model.GatewayStarted() | model.GatewayProved() | model.PolicyApplied():
            return _outcome(6002, 3, good=True)


def to_ocsf(event: model.Event, envelope: Envelope) -> dict[str, Any]:
    """Return the OCSF object of an event; of a long detail the beginning."""
    event = _with_plain_detail(event)
    kind = _kind(event)
    fields = dataclasses.asdict(event)
    record: dict[str, Any] = {
        "class_uid": kind.class_uid,
        "category_uid": kind.class_uid // 1000,
        "activity_id": kind.activity_id,
        "type_uid": kind.class_uid * 100 + kind.activity_id,
        "severity_id": kind.severity_id,
        "status_id": kind.status_id,
        "time": envelope.time_ms,
        "message": _message(event, fields),
        "metadata": {
            "version": VERSION,
            "sequence": envelope.sequence,
            "event_code": event_code(event),
            "product": {"name": "Quotegate", "vendor_name": "Quotegate", "uid": envelope.gateway_id},
        },
        "unmapped": {**fields, "policy_revision": envelope.policy_revision},
    }
    if "reason" in fields:
        record["status_code"] = fields["reason"]
        record["status_detail"] = fields.get("detail", "")
    if kind.class_uid == 4001:
        record.update(_flow(event))
    if isinstance(event, model.ContentFound):
        record.update(_found(event))
    return record


def _with_plain_detail(event: model.Event) -> model.Event:
    any_event: Any = event
    if not hasattr(event, "detail"):
        return event
    plain: model.Event = dataclasses.replace(any_event, detail=shortened(event.detail, MAX_DETAIL))
    return plain


def _flow(event: model.Event) -> dict[str, Any]:
    match event:
        case model.SessionGranted():
            ends = _endpoints(event.source_ip, 0, event.destination_ip, event.port, event.protocol)
            return {**ends, "firewall_rule": {"uid": event.rule}, "session_uid": event.session_id}
        case model.FlowDropped():
            ports = event.source_port, event.destination_port
            source, destination = IPv4Address(event.source_ip), IPv4Address(event.destination_ip)
            ends = _endpoints(event.source_ip, ports[0], event.destination_ip, ports[1], event.protocol)
            ends["connection_info"]["community_uid"] = community_id(
                event.protocol, source, ports[0], destination, ports[1]
            )
            return {**ends, "traffic": {"packets": event.count}}
        case model.PacketsDropped():
            source_end = {"src_endpoint": {"ip": event.source_ip}} if event.source_ip else {}
            return {**source_end, "traffic": {"packets": event.count}}
        case model.SessionRefused():
            return {"src_endpoint": {"name": event.source}, "dst_endpoint": {"name": event.destination}}
        case model.SessionClosed() | model.Delivered():
            names = {"src_endpoint": {"name": event.source}, "dst_endpoint": {"name": event.destination}}
            return {**names, "session_uid": event.session_id}
    return {}


def _found(event: model.ContentFound) -> dict[str, Any]:
    ports = event.source_port, event.destination_port
    ends = _endpoints(event.source_ip, ports[0], event.destination_ip, ports[1], event.protocol)
    source, destination = IPv4Address(event.source_ip), IPv4Address(event.destination_ip)
    ends["connection_info"]["community_uid"] = community_id(
        event.protocol, source, ports[0], destination, ports[1]
    )
    ends["connection_info"]["protocol_name"] = event.spoken
    return {
        "finding_info": {
            "uid": event.check,
            "title": event.detail,
            "analytic": {"name": event.check, "type_id": 1},
        },
        "evidences": [{**ends, "data": {"inside": event.inside, "redacted": event.evidence}}],
        "firewall_rule": {"uid": event.rule},
        "disposition_id": 2 if event.cuts else 19,  # Blocked, Alert
    }


def _endpoints(source: str, source_port: int, destination: str, port: int, protocol: int) -> dict[str, Any]:
    return {
        "src_endpoint": {"ip": source, "port": source_port},
        "dst_endpoint": {"ip": destination, "port": port},
        "connection_info": {"protocol_num": protocol, "direction_id": 3},
    }


def event_code(event: model.Event) -> str:
    """Name the kind of an event, as records do."""
    name = type(event).__name__
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


def _message(event: model.Event, fields: dict[str, Any]) -> str:
    shown = [
        f"{name}={value}"
        for name, value in fields.items()
        if value not in ("", None) and not isinstance(value, dict)
    ]
    return f"{event_code(event)}: {' '.join(shown)}"
