"""A peer that fails while its next session is being admitted is not trusted by that session."""

import asyncio
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from authn.errors import AttestationError
from authn.evidence import Counters
from authn.failure import AttestationFailure
from authn.fields import Frame, FrameType, encode_frame
from authn.portmap import PortEntry
from filters.errors import NetdError
from gateway.control.handshaking import HandshakeDriver
from gateway.control.link import PeerLink
from gateway.control.server import ControlServer
from gateway.control.stream import FrameStream
from gateway.errors import GatewayError
from gateway.events import model
from gateway.registry.registry import Registry
from gateway.registry.states import PeerState
from gateway.store.store import Store
from gateway.trust.keeper import TrustKeeper

PLACE = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")
WRONG = AttestationError(AttestationFailure.PCR_MISMATCH, "PCR 4 differs")
Meanwhile = Callable[[], Coroutine[Any, Any, None]]


async def _nothing() -> None:
    return None


class Scene:
    """A peer with a session that lives; what happens meanwhile hangs on each step of admitting the next one."""

    def __init__(self, directory: Path) -> None:
        self.told: list[str] = []
        self.noted: list[model.Event] = []
        self.meanwhile: dict[str, Meanwhile] = {}
        clock = SimpleNamespace(now=lambda: 100.0, wall=lambda: 1.0)
        self.registry, self.store = Registry((PLACE,), Mock()), Store(directory / "state.db")
        self.peer = next(iter(self.registry))
        self.peer.state, self.peer.link = PeerState.TRUSTED, self.link(5)
        self.store.raise_high_water("web", Counters(10, 5, 0, True))
        anyone: Any = self
        self.keeper = TrustKeeper(
            self.registry, anyone, self.store, anyone, clock, 0.2, lambda _: None, self.cut, self.failed
        )
        introduction: Any = SimpleNamespace(store=self.store, clock=clock)
        self.server = ControlServer(
            introduction, self.registry, self.keeper, anyone, anyone, frozenset(), Mock(), Mock()
        )

    @staticmethod
    def link(reset_count: int) -> Any:
        verified = SimpleNamespace(counters=Counters(20, reset_count, 0, True))
        session = Mock(pcr_values={}, session_id="s", verified=verified)
        return Mock(spec=PeerLink, tracker=Mock(), session=session, closed=False)

    async def _step(self, name: str) -> None:
        self.told.append(name)
        await self.meanwhile.pop(name, _nothing)()

    async def trust(self, *_: object) -> None:
        await self._step("trust")

    async def distrust(self, *_: object) -> None:
        await self._step("distrust")

    async def record(self, event: model.Event) -> None:
        self.noted.append(event)
        await self._step("record")

    def note(self, event: model.Event) -> None:
        self.noted.append(event)

    def note_within(self, event: model.Event, _who: str) -> None:
        self.noted.append(event)

    async def cut(self, *_: object) -> None:
        await self._step("cut")

    def failed(self, *_: object) -> None:
        self.told.append("recovery")

    async def keep(self, *_: object) -> None:
        await self._step("evidence")

    async def fails(self) -> None:
        """Take a wrong answer of the session that lives."""
        await self.keeper.fail(self.peer, WRONG)

    async def handshake(self, monkeypatch: pytest.MonkeyPatch, reset_count: int) -> PeerLink | None:
        """Have another connection of the peer prove itself well."""
        next_link = self.link(reset_count)
        driver = Mock(sent_at=100.0, record=self.peer)
        driver.machine.signed_reset_count = reset_count
        driver.machine.peer.profile.selection = ()

        async def run(_first: object) -> Any:
            return next_link.session

        driver.run = run
        monkeypatch.setattr(HandshakeDriver, "begin", lambda *_: driver)
        monkeypatch.setattr(TrustKeeper, "tracker", lambda *_: Mock())
        return await self.server._handshake(self.peer, Mock(), Mock())


@pytest.mark.parametrize("step", ["record", "cut", "trust"])
def test_rejects_a_session_whose_peer_failed_while_it_was_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def story() -> Scene:
        scene = Scene(tmp_path)
        scene.meanwhile[step] = scene.fails
        with pytest.raises(AttestationError):
            await scene.handshake(monkeypatch, 5)
        return scene

    scene = asyncio.run(story())
    assert scene.peer.state is PeerState.FAILED
    assert not scene.peer.trusted
    assert "recovery" in scene.told
    assert [one for one in scene.told if one.endswith("trust")][-1] == "distrust"
    kept = scene.store.high_water("web")
    assert kept is not None and kept.failed_at_reset == 5


@pytest.mark.parametrize("step", ["record", "cut"])
def test_a_failure_before_a_restart_does_not_refuse_the_session_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def story() -> Scene:
        scene = Scene(tmp_path)
        scene.meanwhile[step] = scene.fails
        assert await scene.handshake(monkeypatch, 6) is not None
        return scene

    scene = asyncio.run(story())
    assert scene.peer.trusted
    kept = scene.store.high_water("web")
    assert kept is not None and kept.failed_at_reset is None


def test_rejects_a_session_that_comes_while_the_kernel_is_told_of_the_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round: the failure is first, and not marked yet."""

    async def story() -> Scene:
        scene = Scene(tmp_path)

        async def comes() -> None:
            assert await scene.handshake(monkeypatch, 5) is None

        scene.meanwhile["distrust"] = comes
        await scene.fails()
        assert await scene.handshake(monkeypatch, 5) is None
        return scene

    scene = asyncio.run(story())
    assert (scene.peer.state, scene.peer.link) == (PeerState.FAILED, None)
    assert "trust" not in scene.told
    assert scene.told[-1] == "recovery"


@pytest.mark.parametrize("how", ["fail", "demand_anew"])
def test_a_new_session_outlives_the_end_of_the_former_that_is_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    links: list[PeerLink | None] = []

    async def story() -> Scene:
        scene = Scene(tmp_path)

        async def comes() -> None:
            links.append(await scene.handshake(monkeypatch, 6))

        scene.meanwhile["cut"] = comes
        await (scene.fails() if how == "fail" else scene.keeper.demand_anew(scene.peer))
        return scene

    scene = asyncio.run(story())
    assert scene.peer.trusted
    assert [scene.peer.link] == links
    assert "recovery" not in scene.told


def test_rejects_a_session_whose_peer_was_quarantined_while_it_was_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> Scene:
        scene = Scene(tmp_path)

        async def quarantined() -> None:
            scene.peer.state, scene.peer.link = PeerState.QUARANTINED, None

        scene.meanwhile["record"] = quarantined
        with pytest.raises(AttestationError, match="quarantined"):
            await scene.handshake(monkeypatch, 6)
        return scene

    scene = asyncio.run(story())
    assert "trust" not in scene.told


@pytest.mark.parametrize(
    "failure", [NetdError("kernel", "the table is as it was"), asyncio.CancelledError("its time is over")]
)
def test_a_session_that_the_kernel_was_not_told_of_leaves_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """Nobody serves it or would ever take it away; a change of the policy made the peer seem to be silent."""

    async def story() -> Scene:
        scene = Scene(tmp_path)

        async def fails() -> None:
            raise failure

        scene.meanwhile["trust"] = fails
        with pytest.raises(type(failure)):
            await scene.handshake(monkeypatch, 5)
        return scene

    scene = asyncio.run(story())
    assert scene.peer.link is None
    assert not scene.peer.trusted


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(None, "handshake-timeout"), (GatewayError("tpm-refused", "the TPM refused quote"), "")],
)
def test_a_handshake_that_came_to_nothing_is_under_way_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception | None, reason: str
) -> None:
    """Who began one and fell silent was attesting for ever."""
    monkeypatch.setattr("gateway.control.server.DEADLINE_S", 0.05)

    async def run(_first: object) -> Any:
        if failure:
            raise failure
        await asyncio.Event().wait()

    async def story() -> Scene:
        scene = Scene(tmp_path)
        scene.peer.state, scene.peer.link = PeerState.ENROLLED, None
        monkeypatch.setattr(HandshakeDriver, "begin", lambda *_: Mock(run=run))
        scene.server._limits.admit(scene.peer.ip, 100.0)
        stream: Any = Mock(receive=AsyncMock(return_value=Frame(FrameType.M1, b"")), received=0)
        assert await scene.server._introduce(scene.peer, stream) is None
        return scene

    scene = asyncio.run(story())
    assert (scene.peer.state, scene.peer.reason) == (PeerState.ENROLLED, reason)


@pytest.mark.parametrize(
    ("state", "known"), [(PeerState.UNKNOWN, True), (PeerState.UNKNOWN, False), (PeerState.QUARANTINED, True)]
)
def test_a_peer_that_was_forgotten_or_quarantined_while_its_approval_was_recorded_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: PeerState, known: bool
) -> None:
    """It counted as enrolled with no TPM pinned to it, or the record said that its enrollment was refused."""

    async def story() -> Scene:
        scene = Scene(tmp_path)
        scene.peer.state, scene.peer.link = PeerState.UNKNOWN, None
        pinned: list[Any] = [Mock(approved=True, ek_fingerprint="sha256:aa")]
        monkeypatch.setattr(scene.store, "identity", lambda _: pinned[0])
        monkeypatch.setattr(
            "gateway.control.server.run_enrollment", AsyncMock(return_value=("approved", True))
        )

        async def meanwhile() -> None:
            scene.peer.state = state
            if not known:
                pinned[0] = None

        scene.meanwhile["record"] = meanwhile
        await scene.server._enroll(scene.peer, Mock(), Mock())
        return scene

    assert asyncio.run(story()).peer.state is (
        PeerState.ENROLLED if (state, known) == (PeerState.UNKNOWN, True) else state
    )


def test_a_session_is_admitted_where_nothing_happens_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path)
    assert asyncio.run(scene.handshake(monkeypatch, 5)) is not None
    assert scene.peer.trusted


@pytest.mark.parametrize("step", ["record", "cut", "trust"])
def test_rejects_a_session_whose_peer_was_forgotten_while_it_was_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def story() -> Scene:
        scene = Scene(tmp_path)
        monkeypatch.setattr(scene.store, "forget", lambda _: "sha256:aa")
        scene.meanwhile[step] = lambda: scene.keeper.forget(scene.peer, "uid 0")
        with pytest.raises(AttestationError):
            await scene.handshake(monkeypatch, 6)
        return scene

    scene = asyncio.run(story())
    assert (scene.peer.state, scene.peer.link, scene.peer.counters) == (PeerState.UNKNOWN, None, None)
    assert [one for one in scene.told if one.endswith("trust")][-1] == "distrust"
    assert model.EnrollmentChanged("web", "10.0.0.2", "forgotten", "sha256:aa", "by uid 0") in scene.noted


def test_who_is_quarantined_stays_so_when_it_is_forgotten(tmp_path: Path) -> None:
    async def story() -> Scene:
        scene = Scene(tmp_path)
        scene.store.forget = Mock(return_value="sha256:aa")  # type: ignore[method-assign]
        scene.peer.state, scene.peer.link = PeerState.QUARANTINED, None
        await scene.keeper.forget(scene.peer, "uid 0")
        return scene

    assert asyncio.run(story()).peer.state is PeerState.QUARANTINED


@pytest.mark.parametrize(("received", "again"), [(0, True), (4 << 20, False)])
def test_rejects_another_try_soon_after_a_long_one(tmp_path: Path, received: int, again: bool) -> None:
    async def story() -> bool:
        scene = Scene(tmp_path)
        anyone: Any = scene
        anyone.note_within = lambda *_: None
        stream = Mock(received=received)
        stream.receive.side_effect = WRONG
        assert scene.server._limits.admit(PLACE.ip, 100.0)
        assert await scene.server._introduce(scene.peer, stream) is None
        return scene.server._limits.admit(PLACE.ip, 120.0)

    assert asyncio.run(story()) is again


def test_a_stream_counts_what_came() -> None:
    async def story() -> int:
        reader = asyncio.StreamReader()
        reader.feed_data(encode_frame(FrameType.M1, b"x" * 100) + encode_frame(FrameType.M3, b"y" * 1000))
        stream = FrameStream(reader, Mock())
        await stream.receive()
        await stream.receive()
        return stream.received

    assert asyncio.run(story()) == 1110


@pytest.mark.parametrize(
    ("failure", "signed", "excused"),
    [
        (AttestationFailure.UNKNOWN_REFERENCE, True, 100.0),
        (AttestationFailure.REFERENCE_EXPIRED, True, 100.0),
        (AttestationFailure.REFERENCE_EXPIRED, False, None),
        (AttestationFailure.WRONG_MAC, False, None),
    ],
)
def test_only_who_signed_what_it_could_not_mend_is_excused(
    tmp_path: Path, failure: AttestationFailure, signed: bool, excused: float | None
) -> None:
    async def story() -> Scene:
        scene = Scene(tmp_path)
        scene.peer.state = PeerState.RESTARTING
        driver = Mock(record=scene.peer)
        driver.machine.signed_by_peer, driver.machine.signed = signed, None
        driver.machine.signed_reset_count = None
        await scene.server._failed(scene.peer, Mock(), driver, AttestationError(failure, "why"))
        return scene

    peer = asyncio.run(story()).peer
    assert (peer.state, peer.excused_at) == (PeerState.RESTARTING, excused)
    assert (peer.reason == failure.value) == (excused is not None)


@pytest.mark.parametrize("state", [PeerState.ATTESTING, PeerState.FAILED])
def test_rejects_a_peer_that_failed_in_its_handshake_until_it_was_restarted_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: PeerState
) -> None:
    """It was trusted at reset 3, started again, and signed wrong content at 7: at 7 nothing helps it any more."""

    async def story() -> list[bool]:
        scene = Scene(tmp_path)
        scene.store.raise_high_water("web", Counters(10, 3, 0, True))
        scene.peer.state, scene.peer.link = state, None
        driver = Mock(record=scene.peer)
        driver.machine.signed_by_peer, driver.machine.signed = True, None
        driver.machine.signed_reset_count = 7
        await scene.server._failed(scene.peer, Mock(), driver, WRONG)
        return [await scene.handshake(monkeypatch, count) is not None for count in (7, 8)]

    assert asyncio.run(story()) == [False, True]
