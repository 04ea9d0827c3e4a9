"""Parse the tests a policy carries: a flow, the states of peers, and what must come out."""

from collections.abc import Mapping

from filters.policy.model import Peer, PolicyTest
from filters.policy.services import parse_service
from filters.policy.table import Table
from filters.reason import DropReason
from filters.suggestion import suggestion

# The states a peer can have; the gateway's own enum is above this package and tested to be the same.
STATES = (
    "unknown",
    "enrolled",
    "attesting",
    "trusted",
    "stale",
    "unreachable",
    "failed",
    "restarting",
    "quarantined",
)
EXPECTATIONS = ("allow", "deny", *(f"deny:{reason}" for reason in DropReason))


def parse_test(table: Table, peers: Mapping[str, Peer]) -> PolicyTest:
    """Read one `[[test]]`; raises PolicyError, also for a peer, state or reason that does not exist."""
    flow = table.table("flow")
    ends = [_peer(flow, key, flow.take(key, str), peers) for key in ("from", "to")]
    service = flow.parse("service", parse_service)
    flow.finish()
    given = _given(table, peers) if table.has("given") else {}
    table.take("given", dict, {})
    expect = table.choice("expect", EXPECTATIONS)
    table.finish()
    return PolicyTest(ends[0], ends[1], service, given, expect, table.line)


def _given(table: Table, peers: Mapping[str, Peer]) -> dict[str, str]:
    states = table.table("given")
    names = [_peer(states, name, name, peers) for name, _ in states.items()]
    return {name: states.choice(name, STATES) for name in names}


def _peer(table: Table, key: str, name: str, peers: Mapping[str, Peer]) -> str:
    if name not in peers:
        hint = suggestion(name, peers)
        raise table.error("unknown-peer", key, f"{table.name}: there is no peer {name!r}{hint}")
    return name
