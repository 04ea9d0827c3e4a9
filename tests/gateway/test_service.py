"""quotegated's own doings: what it does when a part fails it, and what happens while it waits."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest

from authn.errors import AttestationError, AuthnError
from authn.failure import AttestationFailure
from authn.portmap import PortEntry
from filters.errors import NetdError, PolicyError
from filters.netd.protocol import FrameReader, encode_frame
from filters.reason import DropReason
from gateway import rpc
from gateway.daemon import main, record_keeper, service
from gateway.daemon.drops import DropCollector, DroppedFlow
from gateway.daemon.record_keeper import RecordKeeper
from gateway.daemon.service import Service
from gateway.errors import GatewayError
from gateway.events.model import EventsCounted, PacketsDropped
from gateway.registry.registry import PeerRecord, Registry
from gateway.registry.states import PeerState
from gateway.rpc import RpcError
from gateway.setup import SetupError
from gateway.tpmd.client import TpmClient

PLACE = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")


class Netd(asyncio.Protocol):
    """Takes one client at a time, as netd does; whatever that asks is answered."""

    client: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.frames, self.transport = FrameReader(), cast(asyncio.Transport, transport)
        if Netd.client is None:
            Netd.client = self
        else:
            self.say({"id": 0, "error": {"code": "busy", "message": "netd has a client"}})

    def data_received(self, data: bytes) -> None:
        for request in self.frames.feed(data):
            self.say({"id": request["id"], "ok": {}})

    def connection_lost(self, _: Exception | None) -> None:
        if Netd.client is self:
            Netd.client = None

    def say(self, message: dict[str, Any]) -> None:
        self.transport.write(encode_frame(message))


async def connected(directory: Path, tpmd_after_s: float) -> Any:
    """Have netd listen at once and tpmd later; connect to both as quotegated does."""
    Netd.client = None
    server = await asyncio.get_running_loop().create_unix_server(Netd, directory / "netd")

    async def identity(*_: object) -> dict[str, object]:
        return {"ak_public": "", "ek_public": ""}

    async def tpmd() -> None:
        await asyncio.sleep(tpmd_after_s)
        await rpc.serve(directory / "tpmd", identity)

    later = asyncio.create_task(tpmd())
    sockets = SimpleNamespace(netd=directory / "netd", tpmd=directory / "tpmd")
    setup: Any = SimpleNamespace(sockets=sockets)
    try:
        return await main._connect(setup)
    finally:
        await later
        server.close()


def test_waits_for_tpmd_without_standing_in_its_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try left a connection to netd, which takes one client: the next one was told that netd is busy."""
    monkeypatch.setattr(main, "STARTUP_S", 2.0)
    monkeypatch.setattr(service.AttestationKey, "from_public", Mock())
    monkeypatch.setattr(Service, "__init__", lambda *_: None)
    assert isinstance(asyncio.run(connected(tmp_path, 0.3)), Service)


@pytest.mark.parametrize(
    "error",
    [SetupError("bad-document", "portmap.json: expired"), GatewayError("store-failed", "state.db: full")],
)
def test_what_is_wrong_with_the_setup_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: GatewayError
) -> None:
    """It was tried again for ten seconds, and `netd has a client` was said in the end."""
    monkeypatch.setattr(main, "STARTUP_S", 1.0)
    monkeypatch.setattr(service.AttestationKey, "from_public", Mock())
    begun = Mock(side_effect=error)
    monkeypatch.setattr(Service, "__init__", begun)
    with pytest.raises(GatewayError) as raised:
        asyncio.run(connected(tmp_path, 0.0))
    assert (raised.value, begun.call_count) == (error, 1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(99, "Cannot assign requested address"),
            "quotegated: [Errno 99] Cannot assign requested address",
        ),
        (GatewayError("netd-gone", "netd is gone"), "quotegated: netd-gone: netd is gone"),
    ],
)
@pytest.mark.parametrize("grouped", [True, False])
def test_an_end_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, grouped: bool
) -> None:
    monkeypatch.setattr("sys.argv", ["quotegated", "--setup", "/setup.json"])
    monkeypatch.setattr(main, "forbid_inspection", Mock())
    monkeypatch.setattr(main.GatewaySetup, "load", Mock())
    ended = ExceptionGroup("parts", [error]) if grouped else error
    monkeypatch.setattr(main, "run", AsyncMock(side_effect=ended))
    with pytest.raises(SystemExit) as exited:
        main.main()
    assert exited.value.code == said


@pytest.mark.parametrize("error", [RpcError("tpm-refused", "the TPM refused quote"), AuthnError("x", "y")])
def test_a_peer_that_can_not_be_asked_any_more_is_let_go(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The task ended unseen, and the peer, never asked again, seemed to be silent."""
    link = Mock(closed=False, tracker=Mock(proof_due=True))
    here: Any = SimpleNamespace(
        trust=SimpleNamespace(interval=0.2),
        clock=SimpleNamespace(now=lambda: 1.0),
        tpm=SimpleNamespace(quote_beacon=AsyncMock(side_effect=error)),
    )
    with caplog.at_level(logging.WARNING):
        asyncio.run(Service._beacons(here, PeerRecord("web", PLACE), link))
    link.close.assert_called_once_with()
    assert "web can't be sent a beacon" in caplog.text


@pytest.mark.parametrize(
    "ask",
    [
        lambda tpm: RecordKeeper(
            Mock(spool=Mock(head=(1, bytes(32)))), tpm, Mock(), Mock(wall=lambda: 1.0)
        ).sign_heads(),
        lambda tpm: tpm.identity(),
        lambda tpm: tpm.read_counter(),
        lambda tpm: tpm.quote_beacon(bytes(32)),
        lambda tpm: tpm.quote_handshake(bytes(32)),
    ],
)
def test_rejects_a_tpm_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[TpmClient], Awaitable[object]]
) -> None:
    """Nobody could be asked or let in any more, and the service went on without an end, or its start waited for ever."""
    monkeypatch.setattr("gateway.tpmd.client.ANSWER_WITHIN_S", 0.05, raising=False)
    monkeypatch.setattr(record_keeper, "HEAD_EVERY_S", 0.0)

    async def hang(*_: object) -> dict[str, object]:
        await asyncio.Event().wait()
        return {}

    async def story() -> None:
        server = await rpc.serve(tmp_path / "tpmd", hang)
        tpm = await TpmClient.connect(tmp_path / "tpmd")
        try:
            async with asyncio.timeout(2):
                await ask(tpm)
        finally:
            tpm.close()
            server.close()

    with pytest.raises(RpcError) as raised:
        asyncio.run(story())
    assert raised.value.code == "tpm-silent"


def test_what_was_only_counted_is_on_record_at_the_end() -> None:
    """Up to a minute of it was gone with each stop."""
    noted: list[Any] = []
    drops = DropCollector(frozenset({"10.0.0.2"}))
    drops.take(100.0)
    flow = DroppedFlow("10.0.0.2", "10.0.0.3", 6, 1, 2, DropReason.NO_RULE)
    for at in (100.0, 100.1):
        for port in range(100):
            drops.add(replace(flow, source_port=port))
        noted += drops.take(at)
    counted = 200 - sum(one.count for one in noted)
    counts = {"web": 3}
    here: Any = SimpleNamespace(
        clock=SimpleNamespace(now=lambda: 100.2),
        drops=drops,
        recorder=SimpleNamespace(note=noted.append, note_counts=lambda: noted.append("counts")),
        broker=SimpleNamespace(take_unrecorded=lambda: counts),
        deliveries=SimpleNamespace(take_unrecorded=dict),
        _findings=SimpleNamespace(take_counts=dict),
    )
    here._note_counts = lambda: Service._note_counts(here)
    noted.clear()
    Service.note_rest(here)
    assert noted == [
        PacketsDropped("10.0.0.2", DropReason.NO_RULE, counted),
        EventsCounted("refused session requests of web", 3),
        "counts",
    ]


class Approving:
    """A service in which a peer has asked to be enrolled; notes in which order things were done."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.registry = Registry((PLACE,), lambda *_: self.did.append("moved"))
        self.peer = next(iter(self.registry))
        self.recorder = SimpleNamespace(record=self.record)
        self.store, self.known = self, True

    def asked(self, peer: str) -> Any:
        if not self.known:
            raise GatewayError("unknown-peer", f"{peer} has not asked")
        return SimpleNamespace(ek_fingerprint="sha256:aa")

    def approve(self, peer: str, ek_fingerprint: str) -> None:
        assert self.asked(peer).ek_fingerprint == ek_fingerprint
        self.did.append("approved")

    async def record(self, event: Any) -> None:
        assert event.ek_fingerprint == "sha256:aa"
        self.did.append("recorded")


def test_an_approval_is_on_record_before_it_is_kept() -> None:
    """Killed in between, the gateway would start with a peer approved by nobody."""
    here: Any = Approving()
    asyncio.run(Service.approve(here, here.peer, "uid 0"))
    assert here.did == ["recorded", "approved", "moved"]


def test_rejects_approving_a_peer_that_is_forgotten_at_the_same_time() -> None:
    """It counted as enrolled, with no TPM pinned to it."""
    here: Any = Approving()

    async def forgotten(_: object) -> None:
        here.known = False

    here.recorder.record = forgotten
    with pytest.raises(GatewayError) as raised:
        asyncio.run(Service.approve(here, here.peer, "uid 0"))
    assert raised.value.code == "unknown-peer"
    assert here.peer.state is PeerState.UNKNOWN


def test_inspectors_are_told_the_policy_in_force_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large policy was still being compiled when a small one replaced it, and was told after it."""
    monkeypatch.setattr(service, "assignments_of", lambda policy, _: policy.revision)

    async def story() -> tuple[list[str], list[str]]:
        large, small = (SimpleNamespace(revision=name, rules=[Mock()]) for name in ("large", "small"))
        told: list[str] = []
        here: Any = SimpleNamespace(
            policy=SimpleNamespace(policy=large, compile=None),
            inspectors=SimpleNamespace(assigned=True, assign=AsyncMock(side_effect=told.append)),
            _assigned="",
            _assigning=asyncio.Lock(),
        )
        compiled = asyncio.Event()

        async def compile_beside(_: object, policy: Any) -> None:
            if policy is large:
                await compiled.wait()

        monkeypatch.setattr(asyncio, "to_thread", compile_beside)
        first = asyncio.create_task(Service._assign_inspectors(here))
        await asyncio.sleep(0)
        same = asyncio.create_task(Service._assign_inspectors(here))
        await asyncio.sleep(0)
        early = ["told"] if same.done() else []  # though no inspector knows it
        here.policy.policy = small
        second = asyncio.create_task(Service._assign_inspectors(here))
        await asyncio.sleep(0.01)
        compiled.set()
        await asyncio.gather(first, same, second)
        return told, early

    told, early = asyncio.run(story())
    assert told[-1] == "small"
    assert not early


def test_a_peer_that_the_policy_does_not_have_is_told_so() -> None:
    """Its connection ended without a word to it, and without a reason that an operator could see."""
    here: Any = SimpleNamespace(
        policy=SimpleNamespace(
            profile=Mock(side_effect=PolicyError("unknown-peer", "the policy has no peer web"))
        )
    )
    with pytest.raises(AttestationError) as raised:
        Service._demanded(here, "web")
    assert raised.value.failure is AttestationFailure.UNKNOWN_PEER
    assert "the policy has no peer web" in raised.value.message


def test_a_request_that_fails_with_netd_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        here: Any = SimpleNamespace(_tasks=set())
        here._spawned_done = lambda task: Service._spawned_done(here, task)
        work: Any = AsyncMock(side_effect=NetdError("gone", "the connection to netd ended"))
        Service._spawn(here, work(), "first packet")
        await asyncio.sleep(0.01)

    asyncio.run(story())
    assert "first packet came to nothing: the connection to netd ended" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_store_that_failed_ends_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HOUSEKEEPING_S", 0.0)
    failed = GatewayError("store-failed", "state.db: database or disk is full")
    here: Any = SimpleNamespace(
        clock=SimpleNamespace(now=lambda: 1.0), store=SimpleNamespace(check=Mock(side_effect=failed))
    )
    with pytest.raises(GatewayError) as raised:
        asyncio.run(Service._housekeeping(here))
    assert raised.value is failed
