"""The guest's end of the line to its host: what is written, what happens while nobody listens. A FIFO stands for the port."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock, patch

import pytest

from authn import messages
from authn.errors import AttestationError
from authn.failure import REFUTES_THE_GATEWAY, AttestationFailure
from gateway.agent.agent import TESTIMONIES, WAITING_TESTIMONIES, Agent, Live
from gateway.agent.host_line import HEAD_EVERY_S, UP_EVERY_S, HostLine
from hostlink.reports import MAX_LINE, AuditHead, GatewayFailed, Lines, Up, encode, parse_line

ONE, TWO = b"\1" * 32, b"\2" * 32
KEY = SimpleNamespace(name=b"k")


class Port:
    """A serial port whose other end somebody reads, or not."""

    def __init__(self, path: Path) -> None:
        self.path, self._fd = path, -1
        os.mkfifo(path)

    def listen(self) -> None:
        self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def hang_up(self) -> None:
        os.close(self._fd)

    def said(self) -> list[object]:
        try:
            return list(Lines().feed(os.read(self._fd, 1 << 20)))
        except BlockingIOError:
            return []


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    yield Port(tmp_path / "port")


def test_tells_what_the_host_understands(port: Port) -> None:
    port.listen()
    line = HostLine(port.path)
    line.up(100.0)
    line.head(7, ONE, 100.0)
    line.gateway_failed(AttestationFailure.PCR_MISMATCH)
    assert port.said() == [Up(), AuditHead(7, ONE), GatewayFailed("pcr-mismatch")]


def test_up_is_told_as_soon_as_somebody_listens_and_every_minute_until_there_is_a_head(port: Port) -> None:
    line = HostLine(port.path)
    line.up(100.0)
    port.listen()
    for seconds in range(3):
        line.up(101.0 + seconds)
    assert port.said() == [Up()]
    line.up(101.0 + UP_EVERY_S)
    assert port.said() == [Up()]
    line.head(7, ONE, 200.0)
    line.up(101.0 + 2 * UP_EVERY_S)
    assert port.said() == [AuditHead(7, ONE)]


def test_heads_are_told_every_few_seconds_and_when_they_changed(port: Port) -> None:
    port.listen()
    line = HostLine(port.path)
    line.head(7, ONE, 100.0)
    line.head(8, TWO, 100.5)
    line.head(8, TWO, 100.0 + HEAD_EVERY_S)
    line.head(8, TWO, 100.0 + 2 * HEAD_EVERY_S)
    assert port.said() == [AuditHead(7, ONE), AuditHead(8, TWO)]


def test_a_head_that_nobody_took_is_told_again(port: Port) -> None:
    line = HostLine(port.path)
    line.head(7, ONE, 100.0)
    port.listen()
    line.head(7, ONE, 100.1)
    assert port.said() == [AuditHead(7, ONE)]


def test_waits_for_nobody_and_survives_a_host_that_hangs_up(port: Port) -> None:
    port.listen()
    line = HostLine(port.path)
    for _ in range(1 << 16):  # more than any pipe holds
        line.gateway_failed(AttestationFailure.NO_ANSWER)
    port.hang_up()
    line.gateway_failed(AttestationFailure.NO_ANSWER)  # EPIPE
    port.listen()
    line.gateway_failed(AttestationFailure.WRONG_AK)
    assert port.said() == [GatewayFailed("wrong-ak")]


def test_without_a_port_nothing_happens(tmp_path: Path) -> None:
    line = HostLine(tmp_path / "none")
    line.up(100.0)
    line.gateway_failed(AttestationFailure.NO_ANSWER)


@pytest.mark.parametrize("failure", list(AttestationFailure))
def test_each_check_can_be_named(failure: AttestationFailure) -> None:
    line = encode(GatewayFailed(failure.value))
    assert len(line) < MAX_LINE
    assert parse_line(line[:-1]) == GatewayFailed(failure.value)


def test_what_the_peer_itself_may_have_broken_does_not_refute_the_gateway() -> None:
    assert AttestationFailure.MALFORMED_MESSAGE not in REFUTES_THE_GATEWAY
    assert AttestationFailure.WRONG_MAC not in REFUTES_THE_GATEWAY


def test_an_agent_with_a_line_speaks_on_it_and_asks_no_socket(port: Port, tmp_path: Path) -> None:
    port.listen()
    setup = Mock(
        host_line=port.path,
        state_dir=tmp_path,
        peer_id="lab/web",
        monitor_socket=tmp_path / "nobody",
        gateway_key=KEY,
    )
    agent = Agent(setup, Mock(), Mock())
    agent._remember_head(3, ONE)
    asyncio.run(agent._report(AttestationError(AttestationFailure.PCR_MISMATCH, "PCR 12")))
    assert port.said() == [AuditHead(3, ONE), GatewayFailed("pcr-mismatch")]
    assert json.loads((tmp_path / "audit_head.json").read_text())["sequence"] == 3
    assert "nobody" not in agent.detail


def test_an_agent_that_starts_anew_lets_no_older_head_replace_what_it_was_told(tmp_path: Path) -> None:
    setup = Mock(host_line=None, state_dir=tmp_path, peer_id="lab/web", gateway_key=KEY)
    Agent(setup, Mock(), Mock())._remember_head(7, ONE)
    again = Agent(setup, Mock(), Mock())
    assert again.audit_head == (7, ONE)
    again._remember_head(6, bytes(32))
    assert json.loads((tmp_path / "audit_head.json").read_text())["sequence"] == 7
    other = Mock(
        host_line=None, state_dir=tmp_path, peer_id="lab/web", gateway_key=SimpleNamespace(name=b"other")
    )
    assert Agent(other, Mock(), Mock()).audit_head == (0, bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"sequence": Infinity, "hash": "", "gateway": "6b"}',
        '{"sequence": 1, "hash": "00", "gateway": "6b"}',
    ],
)
def test_a_head_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "audit_head.json").write_text(text)
    assert Agent(Mock(host_line=None, state_dir=tmp_path, gateway_key=KEY), Mock(), Mock()).audit_head == (
        0,
        bytes(32),
    )


def test_beacons_do_not_wait_for_testimonies(tmp_path: Path) -> None:
    async def story() -> tuple[int, int]:
        agent, under_way, most = (
            Agent(Mock(host_line=None, state_dir=tmp_path, gateway_key=KEY), Mock(), Mock()),
            0,
            0,
        )

        async def slow(*_: object) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await go_on.wait()
            under_way -= 1

        live, go_on = Live(Mock(), Mock(), Mock()), asyncio.Event()
        with patch.object(agent, "_witness", slow):
            for number in range(2 * WAITING_TESTIMONIES):
                await asyncio.wait_for(agent._handle(live, messages.DeliveryQuery(number, "s", 1, 1)), 1)
            asked = len(live.testimonies)
            go_on.set()
            await asyncio.gather(*live.testimonies)
        return most, asked

    assert asyncio.run(story()) == (TESTIMONIES, WAITING_TESTIMONIES)
