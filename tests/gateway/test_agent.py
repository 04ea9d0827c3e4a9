"""The agent as a dialogue: what a gateway that is broken, or was taken over, makes of it."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock, patch

import pytest

from authn import messages
from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.fields import FrameType, encode_frame
from authn.handshake_messages import SessionParameters
from authn.pcr import PcrSelection
from gateway.agent import agent as agent_module
from gateway.agent.agent import ASKING, Agent, Live
from gateway.agent.conversation import Conversation
from gateway.agent.offers import Offers
from gateway.agent.state import AgentState
from gateway.errors import GatewayError
from hostlink.reports import MAX_SEQUENCE

KEY = SimpleNamespace(name=b"k")
CLOSED = encode_frame(FrameType.RECORD, messages.encode(messages.SessionClosed("s", "over")))


def agent_at(state_dir: Path, **setup: Any) -> Agent:
    given = {"host_line": None, "state_dir": state_dir, "gateway_key": KEY, "peer_id": "lab/web", **setup}
    return Agent(Mock(**given), Mock(), Mock())


def session(interval_ms: int = 10) -> Any:
    """A session whose records are in the clear."""
    found = Mock(parameters=SessionParameters(interval_ms, 5, 7, bytes(32)))
    found.receive.open = found.send.seal = lambda record: record
    return found


@pytest.mark.parametrize(("at_once", "pause_s"), [(1, 0.005), (10_000, 0.0)], ids=["trickle", "flood"])
def test_rejects_other_messages_in_place_of_beacons(tmp_path: Path, at_once: int, pause_s: float) -> None:
    """Else a gateway that turned bad would keep its peers by keeping back the beacon that has to prove it."""

    async def story() -> None:
        reader, loop = asyncio.StreamReader(), asyncio.get_running_loop()

        async def chatter() -> None:
            while True:
                reader.feed_data(CLOSED * at_once)
                await asyncio.sleep(pause_s)

        talking = asyncio.create_task(chatter())
        conversation = Conversation(Mock(ima_list=None), Mock(), reader, Mock())
        begun = loop.time()
        with (
            patch.object(Conversation, "handshake", AsyncMock(return_value=session())),
            patch.object(Conversation, "watch", Mock()),
        ):
            async with asyncio.timeout(10):
                with pytest.raises(TimeoutError):
                    await agent_at(tmp_path)._converse(conversation, Mock())
        assert loop.time() - begun < 5
        talking.cancel()

    asyncio.run(story())


def asked(
    agent: Agent, question: Callable[[], Coroutine[Any, Any, object]], answer: messages.Message
) -> GatewayError:
    """Put a question, have the gateway answer, and return what the asker is told."""

    async def story() -> GatewayError:
        live = agent._live = Live(Mock(), Mock(), Mock())
        task = asyncio.create_task(question())
        await asyncio.sleep(0.01)
        await agent._handle(live, answer)
        with pytest.raises(GatewayError) as raised:
            await asyncio.wait_for(task, 1)
        return raised.value

    return asyncio.run(story())


def test_rejects_answer_to_another_kind_of_question(tmp_path: Path) -> None:
    agent = agent_at(tmp_path)
    report = messages.DeliveryReport(1, "s", 1, "open", True)
    error = asked(agent, lambda: agent.open_session("db", "tcp/1"), report)
    assert (error.code, error.message) == (
        "bad-answer",
        "the gateway answered another question, by a DeliveryReport",
    )
    result = messages.SessionResult(2, True, "s", "", "", 1, "10.0.0.1")
    assert asked(agent, lambda: agent.ask_delivery("s", 1, 1), result).code == "bad-answer"


def test_local_questions_do_not_fill_the_gateways_allowance(tmp_path: Path) -> None:
    """A peer's beacon answers wait behind whatever else it sends: programs that ask without end would have it cut."""

    async def story() -> int:
        agent = agent_at(tmp_path)
        live = agent._live = Live(Mock(), Mock(), Mock())
        asking = [asyncio.create_task(agent.open_session("db", "tcp/1")) for _ in range(4 * ASKING)]
        await asyncio.sleep(0.05)
        sent = live.conversation.send_message.call_count  # type: ignore[attr-defined]
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        return int(sent)

    assert asyncio.run(story()) == ASKING


@pytest.mark.parametrize(
    ("ip", "service"), [("db", "tcp/1"), ("10.0.0.2", "any"), ("::1", "tcp/1"), ("", "")]
)
def test_rejects_offer_that_nothing_can_be_witnessed_of(tmp_path: Path, ip: str, service: str) -> None:
    agent = agent_at(tmp_path)
    with pytest.raises(AttestationError) as raised:
        asyncio.run(agent._handle(Mock(), messages.SessionOffer("s", "db", ip, service)))
    assert raised.value.failure is AttestationFailure.MALFORMED_MESSAGE


def test_rejects_endless_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.agent.offers.REMEMBERED", 8)
    offers = Offers()
    for number in range(100):
        offers.note(messages.SessionOffer(f"s{number}", "db", "10.0.0.2", "tcp/1"))
    assert [number for number in range(100) if offers.find(f"s{number}")] == list(range(92, 100))


def test_what_others_say_acts_on_no_terminal(tmp_path: Path) -> None:
    agent = agent_at(tmp_path)
    agent._set(AgentState.DISCONNECTED, "so\x1b[2J\n" + "x" * 5000)
    assert agent.detail.startswith("so?[2J?xxx")
    assert agent.detail.isprintable()
    assert len(agent.detail) < 400


def test_a_full_disk_ends_no_session_and_the_head_is_kept_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent, place = agent_at(tmp_path / "state"), tmp_path / "state"
    for sequence in (3, 4, 4):
        agent._remember_head(sequence, bytes(32))
    assert agent.audit_head == (4, bytes(32))
    (warning,) = caplog.messages
    assert "audit_head.json: keeping the newest audit head: expected room for it, got: " in warning
    place.mkdir()
    agent._remember_head(4, bytes(32))
    assert json.loads((place / "audit_head.json").read_text())["sequence"] == 4


def test_a_monitor_that_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "MONITOR_WITHIN_S", 0.1)

    async def story() -> str:
        async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
            await asyncio.sleep(30)

        await asyncio.start_unix_server(silent, tmp_path / "monitor")
        agent = agent_at(tmp_path, monitor_socket=tmp_path / "monitor")
        refusal = AttestationError(AttestationFailure.PCR_MISMATCH, "PCR 12")
        async with asyncio.timeout(10):
            await agent._report(refusal)
        return agent.detail

    assert "PCR 12; the monitor says: nothing within" in asyncio.run(story())


def test_rejects_a_number_that_no_audit_record_has(tmp_path: Path) -> None:
    """The host does not understand it, and would hear nothing of this guest any more."""
    agent = agent_at(tmp_path)
    with pytest.raises(AttestationError) as raised:
        agent._remember_head(MAX_SEQUENCE + 1, bytes(32))
    assert raised.value.failure is AttestationFailure.MALFORMED_MESSAGE
    assert (agent.audit_head, list(tmp_path.iterdir())) == ((0, bytes(32)), [])
    agent._remember_head(MAX_SEQUENCE, bytes(32))
    assert agent.audit_head[0] == MAX_SEQUENCE


async def never(*_: object) -> None:
    await asyncio.sleep(3600)


def test_a_tpm_that_hangs_ends_the_session_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the agent would say `attested` for ever, or blame the gateway's silence."""
    monkeypatch.setattr(agent_module, "BUSY_TPM_WITHIN_S", 0.1)

    async def story() -> Agent:
        agent, reader = agent_at(tmp_path, tpm="device:/dev/tpmrm0", ima_list=None), asyncio.StreamReader()
        agent.worker = Mock(run=never)
        agent.setup.profile.selection = PcrSelection.of([4])  # type: ignore[misc]
        beacon = messages.Beacon(1, bytes(32), 1, bytes(32), None)
        reader.feed_data(encode_frame(FrameType.RECORD, messages.encode(beacon)))
        found = session(60_000)
        found.epoch, found.exporter = bytes(16), bytes(32)
        writer = Mock()
        writer.transport.get_write_buffer_size.return_value = 0
        with (
            patch.object(Conversation, "handshake", AsyncMock(return_value=found)),
            patch.object(Conversation, "watch", Mock()),
            patch("asyncio.open_connection", AsyncMock(return_value=(reader, writer))),
        ):
            async with asyncio.timeout(10):
                await agent._attempt(Mock())
        return agent

    agent = asyncio.run(story())
    assert agent.state is AgentState.DISCONNECTED
    assert agent.detail.startswith("device:/dev/tpmrm0: asking this machine's TPM for a quote: expected one")


def test_a_gateway_that_falls_silent_while_it_enrolls_is_named(tmp_path: Path) -> None:
    async def story() -> str:
        agent = agent_at(tmp_path)
        with (
            patch("asyncio.open_connection", AsyncMock(side_effect=TimeoutError())),
            patch("asyncio.sleep", AsyncMock()),
        ):
            await agent._enroll(Mock())
        return f"{agent.state}: {agent.detail}"

    assert asyncio.run(story()) == "enrollment-failed: the gateway fell silent"


def test_rejects_to_enroll_without_end_where_the_policy_lacks_the_peer(tmp_path: Path) -> None:
    """Its TPM is approved each time, and each handshake is refused: every try would cost the gateway a proof and a record."""

    async def story() -> list[str]:
        agent, found = agent_at(tmp_path), []
        with (
            patch("asyncio.open_connection", AsyncMock(return_value=(Mock(), Mock()))),
            patch("asyncio.sleep", AsyncMock()) as sleep,
            patch.object(Conversation, "enroll", AsyncMock(return_value="approved")),
        ):
            for _ in range(3):
                await agent._enroll(Mock())
                found.append(f"{agent.state} {agent.detail}, waited {sleep.await_count}")
        return found

    refused = "refused unknown-peer: approved, and not in the policy in force"
    assert asyncio.run(story()) == [
        "enrolled approved, waited 0",
        f"{refused}, waited 1",
        f"{refused}, waited 2",
    ]
