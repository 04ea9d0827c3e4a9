"""The agent's local socket: what programs of this machine may say, and what they are told of the gateway's words."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from authn.messages import DeliveryReport, SessionResult
from gateway.agent.local import LocalService
from gateway.errors import GatewayError


def told(request: dict[str, object], answer: object = None) -> tuple[dict[str, Any], Mock]:
    agent = Mock(open_session=AsyncMock(return_value=answer), ask_delivery=AsyncMock(return_value=answer))
    return dict(asyncio.run(LocalService(agent).handle(request, 1000))), agent


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peer", "x" * 2000), ("peer", ""), ("peer", "\ud800"), ("peer", "db\x1b[2J"), ("service", "y" * 129),
        ("session_id", "z" * 129), ("port", -1), ("port", 65536), ("sent", -1), ("sent", 1 << 70),
    ],
    ids=repr,
)  # fmt: skip
def test_rejects_request_that_the_gateway_cannot_read(field: str, value: object) -> None:
    """It would end this machine's session, and with it everybody's connections, at any program's word."""
    opening: dict[str, object] = {"op": "open", "peer": "db", "service": "tcp/1"}
    asking: dict[str, object] = {"op": "delivery", "session_id": "s", "port": 1, "sent": 1}
    request = {**(opening if field in opening else asking), field: value}
    agent = Mock()
    with pytest.raises(GatewayError) as raised:
        asyncio.run(LocalService(agent).handle(request, 1000))
    assert raised.value.code == "bad-request"
    assert raised.value.message.startswith(f"{field}: expected ")
    assert raised.value.message.isprintable()
    assert agent.mock_calls == []


def test_rejects_answer_with_a_place_that_is_no_address() -> None:
    """A name would be looked up, by whoever answers for names here."""
    for place in ("localhost", "", "10.0.0.2\x1b[2J", "::1"):
        with pytest.raises(GatewayError) as raised:
            told(
                {"op": "open", "peer": "db", "service": "tcp/1"},
                SessionResult(1, True, "s", "", "", 1, place),
            )
        assert raised.value.code == "bad-answer"
        assert raised.value.message.isprintable()


def test_what_the_gateway_says_acts_on_no_terminal() -> None:
    refusal = SessionResult(1, False, "", "no-rule\x1b[2J", "nothing\nallows it", 0, "")
    answer, _ = told({"op": "open", "peer": "db", "service": "tcp/1"}, refusal)
    assert (answer["reason"], answer["detail"], answer["ip"]) == ("no-rule?[2J", "nothing?allows it", "")
    report = DeliveryReport(1, "s", 7, "open\r", True)
    answer, agent = told({"op": "delivery", "session_id": "s", "port": 65535, "sent": 7}, report)
    assert answer == {"received": 7, "state": "open?", "complete": True}
    agent.ask_delivery.assert_awaited_once_with("s", 65535, 7)
