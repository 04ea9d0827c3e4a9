"""Recorded flows against a draft."""

from typing import Any

from filters.policy.parser import parse_policy
from gateway.events import model
from gateway.events.ocsf import Envelope, to_ocsf
from gateway.policy.replay import collect_flows, replay_flows
from tests.filters.policy.texts import HEAD, rule

BEFORE = parse_policy(HEAD + rule("sql", "web", "db", "tcp/5432", "allow"))
WEB, DB = (str(BEFORE.peers[name].ip) for name in ("web", "db"))


def _record(event: model.Event) -> dict[str, Any]:
    return to_ocsf(event, Envelope(1, 0, "lab/gw", "r"))


GRANTED = _record(model.SessionGranted("s", "web", "db", WEB, DB, 6, 5432, "sql", 1000, "request"))
REFUSED = _record(model.SessionRefused("web", "ops", "tcp/22", "no-rule", "", ""))
DROPPED = _record(model.FlowDropped(WEB, DB, 17, 40000, 53, "no-rule", 5))


def test_reads_flows_out_of_events() -> None:
    flows = collect_flows([GRANTED, GRANTED, REFUSED, DROPPED], BEFORE)
    found = {
        (one.request.source, one.request.destination, str(one.request.service)): one.count for one in flows
    }
    assert found == {("web", "db", "tcp/5432"): 2, ("web", "ops", "tcp/22"): 1, ("web", "db", "udp/53"): 5}


def test_passes_over_what_no_rule_decides() -> None:
    others = [
        _record(model.FlowDropped(WEB, DB, 6, 1, 5432, "not-attested", 9)),
        _record(model.FlowDropped("198.51.100.1", DB, 6, 1, 5432, "no-rule", 9)),
        _record(model.FlowDropped(WEB, DB, 47, 0, 0, "no-rule", 9)),
        _record(model.SessionRefused("web", "db", "nonsense", "no-rule", "", "")),
        _record(model.GatewayStarted("00")),
    ]
    assert collect_flows(others, BEFORE) == []


def test_says_what_would_come_out_otherwise() -> None:
    draft = parse_policy(
        HEAD + rule("sql", "web", "db", "tcp/5432", "deny") + rule("dns", "web", "db", "udp/53", "allow")
    )
    changed = replay_flows(collect_flows([GRANTED, REFUSED, DROPPED], BEFORE), BEFORE, draft)
    said = [(one.before, one.after, one.rule_before, one.rule_after) for one in changed]
    assert said == [
        ("deny:no-rule", "allow", None, "dns"),
        ("allow", "deny:denied-by-rule", "sql", "sql"),
    ]


def test_the_same_policy_changes_nothing() -> None:
    assert replay_flows(collect_flows([GRANTED, REFUSED, DROPPED], BEFORE), BEFORE, BEFORE) == []
