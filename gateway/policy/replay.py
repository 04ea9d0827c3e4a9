"""Run recorded flows against a draft: what would have come out otherwise. Pure.

Only rules are compared: trust, authority and sessions are taken as given, because a policy does not change them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from filters.flow import Protocol, Service
from filters.policy.evaluator import Request
from filters.policy.matching import denies, match_rules
from filters.policy.model import Policy
from filters.policy.services import parse_service
from filters.reason import DropReason

_DECIDED_BY_RULES = {str(DropReason.NO_RULE), str(DropReason.DENIED_BY_RULE)}


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """A flow that was seen, and how often."""

    request: Request
    count: int


@dataclass(frozen=True, slots=True)
class Changed:
    """A flow that the draft decides otherwise; a rule is None where none speaks about it."""

    flow: StoredFlow
    before: str
    after: str
    rule_before: str | None
    rule_after: str | None

    def to_json(self) -> dict[str, object]:
        """Write the documented object."""
        request = self.flow.request
        return {
            "from": request.source,
            "to": request.destination,
            "service": str(request.service),
            "count": self.flow.count,
            "before": self.before,
            "after": self.after,
            "rule_before": self.rule_before,
            "rule_after": self.rule_after,
        }


def collect_flows(records: Iterable[Mapping[str, Any]], policy: Policy) -> list[StoredFlow]:
    """Read the flows out of recorded events: sessions granted and refused, packets dropped for want of a rule."""
    by_ip = {peer.ip: name for name, peer in policy.peers.items()}
    counts: dict[Request, int] = {}
    for record in records:
        request = read_flow(record, by_ip)
        if request is not None:
            counts[request] = counts.get(request, 0) + int(record["unmapped"].get("count", 1))
    return [StoredFlow(request, count) for request, count in counts.items()]


def read_flow(record: Mapping[str, Any], by_ip: Mapping[IPv4Address, str]) -> Request | None:
    """Return the flow that an event is about; None when it is about none, or its peers are unknown."""
    fields, kind = record["unmapped"], record["metadata"]["event_code"]
    match kind:
        case "session-granted":
            service = Service(Protocol(fields["protocol"]), fields["port"])
            return Request(fields["source"], fields["destination"], service)
        case "session-refused":
            return _refused(fields)
        case "flow-dropped" if fields["reason"] in _DECIDED_BY_RULES:
            return _dropped(fields, by_ip)
    return None


def _refused(fields: Mapping[str, Any]) -> Request | None:
    try:
        return Request(fields["source"], fields["destination"], parse_service(fields["service"]))
    except ValueError:
        return None


def _dropped(fields: Mapping[str, Any], by_ip: Mapping[IPv4Address, str]) -> Request | None:
    source, destination = (by_ip.get(IPv4Address(fields[end])) for end in ("source_ip", "destination_ip"))
    try:
        protocol = Protocol(fields["protocol"])
    except ValueError:
        return None
    if source is None or destination is None:
        return None
    port = 0 if protocol is Protocol.ICMP else fields["destination_port"]
    return Request(source, destination, Service(protocol, port))


def replay_flows(flows: Iterable[StoredFlow], before: Policy, after: Policy) -> list[Changed]:
    """Return the flows that come out otherwise under `after`, the most frequent first."""
    changed = []
    for flow in flows:
        (was, old), (will_be, new) = (_outcome(policy, flow.request) for policy in (before, after))
        if was != will_be:
            changed.append(Changed(flow, was, will_be, old, new))
    return sorted(changed, key=lambda one: (-one.flow.count, str(one.flow.request)))


def _outcome(policy: Policy, request: Request) -> tuple[str, str | None]:
    rule, _ = match_rules(policy, request.source, request.destination, request.service)
    if rule is None:
        return f"deny:{DropReason.NO_RULE}", None
    return (f"deny:{DropReason.DENIED_BY_RULE}" if denies(rule) else "allow"), rule.id
