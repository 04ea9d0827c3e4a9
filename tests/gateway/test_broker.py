"""The broker's bounds: how much one requester can have others sign, and how much of the record it can fill."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from authn import messages
from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.portmap import PortEntry
from filters.errors import NetdError
from filters.flow import Protocol, Service
from filters.policy.evaluator import AuthorityState, Facts
from filters.policy.parser import parse_policy
from gateway.control.link import PeerLink
from gateway.registry.registry import Registry
from gateway.registry.states import PeerState
from gateway.sessions.broker import OPENINGS, REFUSALS, WAITING, SessionBroker, facts_of, parse_request
from tests.filters.policy.texts import EXAMPLE

PLACES = tuple(
    PortEntry(name, name, f"52:54:00:00:00:0{number}", IPv4Address(f"10.77.0.{number}"), name)
    for number, name in enumerate(("web", "db"), 2)
)
POLICY = parse_policy(EXAMPLE)


class Scene:
    """Web and db, trusted; nobody answers challenges."""

    def __init__(self) -> None:
        self.at, self.trust = 100.0, AsyncMock()
        self.registry = Registry(PLACES, Mock())
        self.recorder = Mock(record=AsyncMock())
        clock: Any = SimpleNamespace(now=lambda: self.at)
        kernel: Any = AsyncMock()
        self.kernel = kernel
        self.broker = SessionBroker(
            self.registry, kernel, self.recorder, clock, lambda: self.trust, lambda: POLICY,
            lambda: facts_of(self.registry, Facts(AuthorityState.VALID)), 1,
        )  # fmt: skip
        for peer in self.registry:
            peer.state, peer.link = PeerState.TRUSTED, Mock(spec=PeerLink, tracker=Mock(), session=Mock())

    def ask(self, port: int) -> Any:
        return self.broker.open(parse_request("web", "db", Service(Protocol.TCP, port)), port)

    def challenges(self) -> int:
        return sum(peer.link.send.call_count for peer in self.registry)  # type: ignore[union-attr]


def test_refusals_of_one_requester_are_counted_when_there_are_too_many() -> None:
    async def story() -> Scene:
        scene = Scene()
        for port in range(20_000, 20_300):
            await scene.ask(port)
        return scene

    scene = asyncio.run(story())
    assert scene.recorder.record.await_count == REFUSALS
    assert scene.broker.take_unrecorded() == {"web": 300 - REFUSALS}
    assert scene.broker.take_unrecorded() == {}


def test_one_requester_has_few_openings_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way = most = 0

    async def opening(*_: object) -> object:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return SimpleNamespace(granted=True, reason="", session=None)

    async def story() -> list[Any]:
        scene = Scene()
        monkeypatch.setattr(scene.broker, "_open", opening)
        return await asyncio.gather(*(scene.ask(port) for port in range(1, WAITING + 11)))

    outcomes = asyncio.run(story())
    assert most == OPENINGS
    assert [one.reason for one in outcomes].count("session-limit") == 10


@pytest.mark.parametrize("name", ["\x01" * 1024, "Web", "", "platform/", "a" * 33, "db\n"])
def test_rejects_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a peer"):
        parse_request("web", name, Service(Protocol.TCP, 1))


async def late_proofs(monkeypatch: pytest.MonkeyPatch, number: int) -> Any:
    """Challenge web for its request 5432, let that run out, have it prove `number` twice; return its tracker."""
    monkeypatch.setattr("gateway.sessions.broker.PROOF_DEADLINE_S", 0.001)
    scene = Scene()
    web = scene.registry.by_name("web")
    assert web is not None
    assert not (await scene.ask(5432)).granted
    assert scene.challenges() == 1
    proof: Any = Mock(spec=messages.SessionProof, request_id=number, list_extension=b"entries")
    former: Any = Mock(spec=PeerLink, tracker=Mock())
    await scene.broker.proof(web, former, proof)
    assert not former.tracker.note_files.called
    for _ in range(2):
        await scene.broker.proof(web, web.link, proof)  # type: ignore[arg-type]
    assert not web.link.tracker.verify.called  # type: ignore[union-attr]
    return web.link.tracker  # type: ignore[union-attr]


def test_a_late_proof_tells_once_what_was_run_nevertheless(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = asyncio.run(late_proofs(monkeypatch, 5432))
    tracker.note_files.assert_called_once_with(b"entries")


def test_a_wrong_proof_of_a_machine_that_is_being_restarted_costs_no_second_restart() -> None:
    async def story() -> Scene:
        scene = Scene()
        web: Any = scene.registry.by_name("web")
        web.link.tracker.verify.side_effect = AttestationError(
            AttestationFailure.PCR_MISMATCH, "PCR 4 differs"
        )
        asking = asyncio.create_task(scene.ask(5432))
        await asyncio.sleep(0.01)
        web.going_down = True
        await scene.broker.proof(web, web.link, Mock(spec=messages.SessionProof, request_id=5432))
        asking.cancel()
        return scene

    assert not asyncio.run(story()).trust.fail.called


def test_rejects_files_with_a_proof_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not asyncio.run(late_proofs(monkeypatch, 7)).note_files.called


def test_rejects_a_grant_whose_rule_changed_while_it_was_being_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It got the former rule's lease, however long, and stood under that rule's name."""

    async def story() -> tuple[Scene, Any]:
        scene = Scene()
        policy = POLICY
        scene.broker._policy = lambda: policy
        monkeypatch.setattr(scene.broker, "_prove", AsyncMock(return_value=True))

        async def changes(_: object) -> None:
            nonlocal policy
            rules = tuple(replace(rule, lease_ms=1000) for rule in POLICY.rules)
            policy = replace(POLICY, rules=rules)

        scene.recorder.record.side_effect = changes
        return scene, await scene.ask(5432)

    scene, outcome = asyncio.run(story())
    assert (outcome.granted, outcome.reason) == (False, "no-session")
    assert not scene.kernel.grant.called
    assert not scene.broker.book.of_peer("web")
    granted, refused = (call.args[0] for call in scene.recorder.record.await_args_list)
    assert (type(granted).__name__, type(refused).__name__) == ("SessionGranted", "SessionRefused")


def test_a_lease_that_could_not_be_renewed_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would let new connections through until it runs out, with no session that anybody could close."""

    async def story() -> tuple[Scene, Any, Any]:
        scene = Scene()
        monkeypatch.setattr(scene.broker, "_prove", AsyncMock(return_value=True))
        first = await scene.ask(5432)
        scene.kernel.renew.side_effect = NetdError("kernel", "the table is as it was")
        return scene, first, await scene.ask(5432)

    scene, first, second = asyncio.run(story())
    assert (first.granted, second.granted, second.reason) == (True, False, "no-session")
    scene.kernel.revoke.assert_awaited_once_with([first.session.lease_id])
    assert not scene.broker.book.of_peer("web")
