"""While trust is being withdrawn nothing is granted any more: what the kernel is told last is that there is none."""

import asyncio
import sqlite3
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.portmap import PortEntry
from filters.errors import NetdError
from gateway.control.link import PeerLink
from gateway.registry.registry import PeerRecord, Registry
from gateway.registry.states import PeerState
from gateway.trust.keeper import TrustKeeper

PLACE = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")
WRONG = AttestationError(AttestationFailure.PCR_MISMATCH, "PCR 4 differs")


class SlowKernel:
    """Takes its time to distrust; notes what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.go_on = asyncio.Event()

    async def trust(self, *_: object) -> None:
        self.told.append("trust")

    async def distrust(self, *_: object) -> None:
        self.told.append("distrust")
        await self.go_on.wait()


class Scene:
    """A trusted peer, and a keeper whose kernel is slow."""

    def __init__(self) -> None:
        self.registry = Registry((PLACE,), Mock())
        self.kernel, self.cut, self.store = SlowKernel(), AsyncMock(), Mock()
        anyone: Any = self.kernel
        self.keeper = TrustKeeper(
            self.registry, anyone, self.store, Mock(), SimpleNamespace(now=lambda: 100.0, wall=lambda: 1.0), 0.2, lambda _: None, self.cut, Mock(),
        )  # fmt: skip
        self.peer = next(iter(self.registry))
        tracker = Mock(judge=Mock(return_value=Mock(asked_at=100.0)))
        self.link = Mock(spec=PeerLink, tracker=tracker, session=Mock(pcr_values={}))
        self.peer.state, self.peer.link = PeerState.TRUSTED, self.link

    async def answers_meanwhile(self, withdrawing: Any) -> None:
        """Let a good answer come while trust is being withdrawn."""
        task = asyncio.create_task(withdrawing)
        await asyncio.sleep(0)
        assert self.peer.state is not PeerState.TRUSTED
        await self.keeper.answer(self.peer, self.link, Mock())
        self.kernel.go_on.set()
        await task


@pytest.mark.parametrize("how", ["fail", "disconnected", "demand_anew"])
def test_an_answer_that_comes_while_trust_is_withdrawn_gives_none_back(how: str) -> None:
    async def story() -> Scene:
        scene = Scene()
        keeper, peer = scene.keeper, scene.peer
        await scene.answers_meanwhile(
            {
                "fail": lambda: keeper.fail(peer, WRONG),
                "disconnected": lambda: keeper.disconnected(peer, scene.link),
                "demand_anew": lambda: keeper.demand_anew(peer),
            }[how]()
        )
        return scene

    scene = asyncio.run(story())
    assert scene.kernel.told == ["distrust"]
    assert not scene.store.raise_high_water.called
    assert scene.cut.await_count == 1
    assert scene.peer.link is None


def test_a_failure_amid_an_answer_stays_marked() -> None:
    async def story() -> Scene:
        scene = Scene()
        scene.kernel.go_on.set()

        async def trusted_late(*_: object) -> None:
            scene.kernel.told.append("trust")
            await scene.keeper.fail(scene.peer, WRONG)

        scene.kernel.trust = trusted_late  # type: ignore[method-assign]
        await scene.keeper.answer(scene.peer, scene.link, Mock())
        return scene

    scene = asyncio.run(story())
    assert scene.kernel.told == ["trust", "distrust"]
    assert scene.store.mark_failed.called
    assert not scene.store.raise_high_water.called


def test_a_wrong_answer_of_a_former_session_fails_nobody_anew() -> None:
    """What was read of it at once was judged to its end, also when the peer had been restarted and trusted meanwhile."""

    async def story() -> Scene:
        scene = Scene()
        former: Any = Mock(spec=PeerLink, tracker=Mock(judge=Mock(side_effect=WRONG)))
        for _ in range(3):
            await scene.keeper.answer(scene.peer, former, Mock())
        return scene

    scene = asyncio.run(story())
    assert scene.kernel.told == []
    assert (scene.peer.state, scene.peer.link) == (PeerState.TRUSTED, scene.link)


def test_a_wrong_answer_of_a_machine_that_is_being_restarted_costs_no_second_restart() -> None:
    async def story() -> Scene:
        scene = Scene()
        scene.link.tracker.judge.side_effect = WRONG
        scene.peer.state, scene.peer.going_down = PeerState.RESTARTING, True
        await scene.keeper.answer(scene.peer, scene.link, Mock())
        return scene

    assert asyncio.run(story()).peer.state is PeerState.RESTARTING


def test_nobody_is_blamed_for_a_tpm_that_was_forgotten_amid_its_handshake() -> None:
    async def story() -> tuple[Scene, Mock]:
        scene, failed = Scene(), Mock()
        scene.kernel.go_on.set()
        scene.keeper._failed = failed
        scene.peer.state, scene.peer.link = PeerState.UNKNOWN, None
        await scene.keeper.fail(scene.peer, WRONG, 7)
        return scene, failed

    scene, failed = asyncio.run(story())
    assert scene.peer.state is PeerState.UNKNOWN
    assert not scene.store.mark_failed.called
    assert not failed.called
    (noted,) = scene.keeper._recorder.note.call_args.args  # type: ignore[attr-defined]
    assert (noted.reason, noted.attributable) == ("pcr-mismatch", False)


def test_a_peer_that_is_forgotten_while_it_fails_leaves_no_mark_for_the_next_tpm() -> None:
    """That one counts its starts from its own beginning, and would have been kept out."""

    async def story() -> tuple[Scene, Mock]:
        scene, failed = Scene(), Mock()
        scene.keeper._failed = failed
        failing = asyncio.create_task(scene.keeper.fail(scene.peer, WRONG, 7))
        await asyncio.sleep(0)
        scene.peer.state = PeerState.UNKNOWN
        scene.kernel.go_on.set()
        await failing
        return scene, failed

    scene, failed = asyncio.run(story())
    assert not scene.store.mark_failed.called
    assert not failed.called


def test_forgetting_a_peer_is_on_record_also_where_the_kernel_refuses() -> None:
    async def story() -> Scene:
        scene = Scene()
        recorder: Any = Mock(record=AsyncMock())
        scene.keeper._recorder = recorder
        scene.kernel.distrust = AsyncMock(side_effect=NetdError("kernel", "the table is as it was"))  # type: ignore[method-assign]
        with pytest.raises(NetdError):
            await scene.keeper.forget(scene.peer, "uid 0")
        (event,) = recorder.record.await_args.args
        assert (event.peer, event.outcome) == ("web", "forgotten")
        return scene

    assert asyncio.run(story()).peer.state is PeerState.UNKNOWN


def test_a_new_session_ends_what_was_granted_while_the_former_ended() -> None:
    async def story() -> Scene:
        scene = Scene()
        scene.store.high_water.return_value = None
        scene.peer.link = None  # it hung up, and a grant came after its sessions were closed
        await scene.keeper.admit(scene.peer, scene.link, 100.0)
        return scene

    assert asyncio.run(story()).cut.await_args.args[1] == "replaced"  # type: ignore[union-attr]


def test_silence_counts_once_the_policy_knows_the_peer_again() -> None:
    async def story() -> float | None:
        scene = Scene()
        record: PeerRecord = scene.peer
        record.silent_since = 3.0
        scene.keeper.excuse(record)
        return record.silent_since

    assert asyncio.run(story()) == 100.0


def test_a_failure_that_the_store_does_not_take_is_recorded_and_recovered_all_the_same() -> None:
    async def story() -> tuple[Scene, Mock]:
        scene, failed = Scene(), Mock()
        scene.kernel.go_on.set()
        scene.keeper._failed = failed
        scene.store.mark_failed.side_effect = sqlite3.OperationalError("disk I/O error")
        with pytest.raises(sqlite3.OperationalError):
            await scene.keeper.fail(scene.peer, WRONG)
        return scene, failed

    scene, failed = asyncio.run(story())
    assert scene.kernel.told == ["distrust"]
    assert scene.cut.await_count == 1
    assert failed.called
