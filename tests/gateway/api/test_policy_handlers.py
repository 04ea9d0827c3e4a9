"""Explaining a flow keeps no peer waiting: it is decided beside the loop."""

import asyncio
import threading
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from authn.portmap import PortEntry
from filters.policy.evaluator import AuthorityState, Facts
from filters.policy.parser import parse_policy
from gateway.api import policy_handlers
from gateway.api.policy_handlers import explain_flow
from gateway.api.reading import Turns
from gateway.api.routes import Call
from gateway.errors import GatewayError
from gateway.registry.registry import PeerRecord

PLACE = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")


def explained(**body: object) -> dict[str, Any]:
    peer = PeerRecord("web", PLACE)
    registry: Any = SimpleNamespace(
        by_name=lambda name: peer if name == "web" else None,
        by_ip=lambda ip: peer if ip == PLACE.ip else None,
    )
    service = SimpleNamespace(
        registry=registry,
        clock=SimpleNamespace(now=lambda: 1.0),
        broker=SimpleNamespace(book=[]),
        policy=SimpleNamespace(policy=parse_policy("schema = 1\n")),
        facts=lambda: Facts(AuthorityState.ABSENT),
    )
    return asyncio.run(explain_flow(Call(cast(Any, service), {}, cast(Any, body), "uid 1000", Turns())))


def test_rejects_to_evaluate_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, evaluate, try_rules = [], policy_handlers.evaluate, policy_handlers.explain.try_rules

    def noted(function: Any) -> Any:
        def call(*arguments: object) -> Any:
            threads.append(threading.current_thread().name)
            return function(*arguments)

        return call

    monkeypatch.setattr(policy_handlers, "evaluate", noted(evaluate))
    monkeypatch.setattr(policy_handlers.explain, "try_rules", noted(try_rules))
    answer = explained(**{"from": "web", "to": "web", "service": "tcp/80"})
    assert (answer["verdict"], answer["rules"]) == ("deny", [])
    assert len(threads) == 2
    assert all(name.startswith("api reader") for name in threads)


@pytest.mark.parametrize(
    "ends",
    [
        {"destination_port": 1e999},
        {"destination_port": -5},
        {"destination_port": 0},
        {"destination_port": 65536},
        {"destination_port": 80.9},
        {"destination_port": True},
        {"destination_port": "80"},
        {"destination_port": None},
        {"protocol": "sctp"},
        {"protocol": 6},
        {"source_ip": "10.0.0"},
        {"source_ip": 1},
    ],
)
def test_rejects_addresses_and_ports_that_no_packet_has(ends: dict[str, object]) -> None:
    flow = {"source_ip": "10.0.0.2", "destination_ip": "10.0.0.2", "protocol": "tcp", "destination_port": 80}
    assert explained(**flow)["service"] == "tcp/80"
    with pytest.raises(GatewayError) as refused:
        explained(**{**flow, **ends})
    assert refused.value.code == "malformed-request"
    assert refused.value.message.startswith(f"`{next(iter(ends))}`")


@pytest.mark.parametrize("number", [0, -1, 1 << 63, "7", 1.0, True])
def test_rejects_an_events_number_out_of_bounds(number: object) -> None:
    with pytest.raises(GatewayError, match="must be an event's number"):
        explained(event=number)
