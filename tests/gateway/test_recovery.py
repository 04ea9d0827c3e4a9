"""What becomes of a machine that does not come back: time-out, restarts within the budget, quarantine."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from authn.portmap import PortEntry
from filters.policy.model import OnFail
from gateway.clock import SystemClock
from gateway.control.link import PeerLink
from gateway.errors import GatewayError
from gateway.events.model import PeerRemedied
from gateway.recovery import recovery
from gateway.recovery.recovery import Recovery
from gateway.recovery.restarter import MonitorRestarter
from gateway.registry.registry import Registry
from gateway.registry.states import PeerState, Trigger
from gateway.rpc import RpcError, serve
from gateway.store.store import Store

WITHIN_S = 0.2
ON_FAIL = OnFail("restart", 2, 900.0, "quarantine")


class Deaf:
    """Stands for the kernel: it takes everything."""

    def __getattr__(self, _name: str) -> Any:
        async def told(*_: object) -> None:
            return None

        return told


@dataclass
class Noted:
    """Remembers the events."""

    remedies: list[tuple[str, str]] = field(default_factory=list)

    def note(self, event: object) -> None:
        assert isinstance(event, PeerRemedied)
        self.remedies.append((event.remedy, event.reason))

    async def record(self, event: object) -> None:
        self.note(event)


class Place:
    """One machine, what restarts it, and its recovery."""

    def __init__(self, directory: Path) -> None:
        entry = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")
        self.registry = Registry((entry,), lambda *_: None)
        found = self.registry.by_name("web")
        assert found is not None
        self.peer, self.starts, self.boots = found, 0, lambda: None
        self.noted, kernel, self.store = Noted(), Deaf(), Store(directory / "state.db")
        here: Any = self
        noted: Any = self.noted
        self.known, self.on_fail, self.away, self.kept_off = True, ON_FAIL, False, False
        self.recovery = Recovery(
            self.registry, kernel, self.store, noted, here, SystemClock(), lambda _: self.on_fail, lambda _: self.known, WITHIN_S,
        )  # fmt: skip

    boots: Callable[[], None]

    async def machines(self) -> dict[str, bool]:
        if self.away:
            raise RpcError("away", "nobody answers")
        return {"web": not self.kept_off}

    async def restart(self, _peer: str, _reason: str) -> None:
        if self.away:
            raise RpcError("away", "nobody answers")
        self.starts += 1
        self.boots()

    def move(self, *triggers: Trigger) -> None:
        for trigger in triggers:
            self.registry.move(self.peer, trigger)

    async def until(self, state: PeerState) -> None:
        async with asyncio.timeout(5):
            while self.peer.state is not state:
                await asyncio.sleep(0.01)


@pytest.fixture
def here(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.move(Trigger.APPROVED)
    return place


LATE = f"did not come back trusted within {WITHIN_S:.0f} s after "


def test_the_time_of_a_machine_that_nobody_may_blame_does_not_run(here: Place) -> None:
    async def story() -> None:
        here.recovery.expect(here.peer, "the gateway's start")
        for _ in range(8):  # it comes back, and is refused for a reference set that ran out
            here.peer.excused_at = SystemClock().now()
            await asyncio.sleep(WITHIN_S / 2)
            assert here.noted.remedies == []
        await here.until(PeerState.QUARANTINED)  # then it was silent

    asyncio.run(story())
    assert here.starts == 2


def test_a_machine_that_died_before_the_gateways_start_is_restarted(here: Place) -> None:
    """It has no process then, and no machine is there to say anything."""

    async def story() -> None:
        here.away = True  # the monitor comes later
        expecting = asyncio.create_task(here.recovery.expect_all("the gateway's start"))
        await asyncio.sleep(0.05)
        here.away = False
        await expecting
        await here.until(PeerState.QUARANTINED)  # it never comes back

    asyncio.run(story())
    assert here.starts == ON_FAIL.max_restarts
    assert here.noted.remedies[0] == ("restart", f"{LATE}the gateway's start")


@pytest.mark.parametrize("state", [PeerState.UNKNOWN, PeerState.TRUSTED, PeerState.QUARANTINED])
def test_at_the_start_only_enrolled_peers_are_expected(here: Place, state: PeerState) -> None:
    async def story() -> None:
        here.peer.state = state
        await here.recovery.expect_all("the gateway's start")
        await asyncio.sleep(2 * WITHIN_S)

    asyncio.run(story())
    assert here.starts == 0


def test_what_an_operator_switched_off_costs_no_budget_and_is_never_quarantined(here: Place) -> None:
    async def story() -> None:
        here.kept_off = True
        await here.recovery.expect_all("the gateway's start")
        for _ in range(2 * ON_FAIL.max_restarts):
            here.peer.state = PeerState.FAILED
            here.recovery.begin(here.peer, "no-answer")
            await asyncio.sleep(0.05)

    asyncio.run(story())
    assert (here.starts, here.store.restarts("web"), here.noted.remedies) == (0, [], [])
    assert here.peer.state is PeerState.FAILED  # it is out until it runs again and proves itself


def test_a_restart_by_hand_that_the_monitor_cannot_do_leaves_the_peer_to_prove_itself_anew(
    here: Place,
) -> None:
    link = Mock(spec=PeerLink)

    async def story() -> None:
        here.move(Trigger.HANDSHAKE_STARTED, Trigger.VERIFIED)
        here.peer.link, here.away = link, True
        with pytest.raises(RpcError):
            await here.recovery.restart(here.peer, "restarted by root")
        here.away = False
        await here.until(PeerState.QUARANTINED)  # nor does it come back: that counts like any other failure

    asyncio.run(story())
    assert link.close.called
    assert here.starts == ON_FAIL.max_restarts


def test_an_error_of_a_recovery_ends_the_service(here: Place) -> None:
    async def story() -> None:
        here.store.close()
        here.peer.state = PeerState.FAILED
        here.recovery.begin(here.peer, "no-answer")
        async with asyncio.timeout(5):
            await here.recovery.wait_failed()

    with pytest.raises(GatewayError, match="recovery of web ended: ProgrammingError"):
        asyncio.run(story())


def test_nobody_waits_for_a_machine_that_the_policy_does_not_know(here: Place) -> None:
    async def story() -> None:
        here.recovery.expect(here.peer, "the gateway's start")
        here.known = False
        await asyncio.sleep(2 * WITHIN_S)

    asyncio.run(story())
    assert (here.starts, here.peer.state) == (0, PeerState.ENROLLED)


async def _by_the_operator(here: Place) -> None:
    await here.recovery.restart(here.peer, "restarted by root")


async def _of_itself(here: Place) -> None:
    here.recovery.expect(here.peer, "the gateway's start")


async def _after_quarantine(here: Place) -> None:
    here.store.identity = enrolled(approved=True)  # type: ignore[method-assign]
    await here.recovery.quarantine(here.peer, "x")
    await here.recovery.release(here.peer)


@pytest.mark.parametrize(
    ("begin", "after"),
    [
        (_by_the_operator, "restarted by root"),
        (_of_itself, "the gateway's start"),
        (_after_quarantine, "released"),
    ],
)
def test_a_machine_that_hangs_is_restarted_and_ends_in_quarantine(
    here: Place, begin: Callable[[Place], Awaitable[None]], after: str
) -> None:
    async def story() -> None:
        await begin(here)
        here.noted.remedies.clear()
        here.starts = 0
        await here.until(PeerState.QUARANTINED)
        assert here.starts == ON_FAIL.max_restarts
        assert [remedy for remedy, _ in here.noted.remedies] == ["restart", "restart", "quarantine"]
        assert here.noted.remedies[0][1] == LATE + after

    asyncio.run(story())


@pytest.mark.parametrize(
    ("on_fail", "why"),
    [
        (OnFail("quarantine", 0, 0.0, "quarantine"), "as its profile says; last failure: "),
        (OnFail("restart", 0, 900.0, "quarantine"), "restart budget used up; last failure: "),
    ],
)
def test_a_quarantine_says_what_led_to_it(here: Place, on_fail: OnFail, why: str) -> None:
    here.on_fail = on_fail

    async def story() -> None:
        here.recovery.expect(here.peer, "the gateway's start")
        await here.until(PeerState.QUARANTINED)

    asyncio.run(story())
    assert here.noted.remedies == [("quarantine", f"{why}{LATE}the gateway's start")]


def test_what_no_restart_mends_is_quarantined_with_its_reason(here: Place) -> None:
    async def story() -> None:
        here.move(Trigger.FAILED)
        here.recovery.begin(here.peer, "firmware-changed")
        await here.until(PeerState.QUARANTINED)

    asyncio.run(story())
    assert here.noted.remedies == [("quarantine", "no restart mends it; last failure: firmware-changed")]


def test_what_nobody_could_restart_costs_no_budget(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "ASK_AGAIN_S", 0.02)
    here.away = True

    async def story() -> None:
        here.move(Trigger.FAILED)
        here.recovery.begin(here.peer, "unknown-file")
        await asyncio.sleep(0.2)
        assert (here.peer.state, here.noted.remedies, here.store.restarts("web")) == (
            PeerState.FAILED,
            [],
            [],
        )
        here.boots = lambda: here.move(Trigger.VERIFIED)
        here.away = False
        await here.until(PeerState.TRUSTED)

    asyncio.run(story())
    assert here.noted.remedies == [("restart", "unknown-file")]


def test_who_came_back_while_nobody_could_restart_it_is_left_alone(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "ASK_AGAIN_S", 0.02)
    here.away = True

    async def story() -> None:
        here.move(Trigger.FAILED)
        here.recovery.begin(here.peer, "unknown-file")
        await asyncio.sleep(0.05)
        here.move(Trigger.VERIFIED)
        here.away = False
        await asyncio.sleep(0.1)

    asyncio.run(story())
    assert (here.starts, here.noted.remedies) == (0, [])


def enrolled(approved: bool) -> Any:
    return lambda _peer: SimpleNamespace(approved=approved)


@pytest.mark.parametrize("identity", [lambda _peer: None, enrolled(False)], ids=["nobody", "pending"])
def test_who_was_forgotten_in_quarantine_waits_for_approval_and_is_left_alone(
    here: Place, monkeypatch: pytest.MonkeyPatch, identity: Any
) -> None:
    monkeypatch.setattr(here.store, "identity", identity)

    async def story() -> None:
        await here.recovery.quarantine(here.peer, "x")
        here.move(Trigger.FORGOTTEN)
        await here.recovery.release(here.peer)
        await asyncio.sleep(2 * WITHIN_S)
        assert (here.starts, here.peer.state) == (1, PeerState.UNKNOWN)
        here.move(Trigger.APPROVED)

    asyncio.run(story())


def test_a_machine_that_returns_in_time_is_left_alone(here: Place) -> None:
    async def story() -> None:
        here.boots = lambda: here.move(Trigger.VERIFIED)
        await here.recovery.restart(here.peer, "restarted by root")
        here.recovery.expect(here.peer, "the gateway's start")
        await asyncio.sleep(2 * WITHIN_S)
        assert (here.starts, here.peer.state) == (1, PeerState.TRUSTED)

    asyncio.run(story())


def test_one_that_fails_while_it_is_awaited_is_restarted_at_once_for_that(here: Place) -> None:
    async def story() -> None:
        here.boots = lambda: here.registry.move(here.peer, Trigger.FAILED, "reference-mismatch") and None
        await here.recovery.restart(here.peer, "restarted by root")
        here.recovery.begin(here.peer, "reference-mismatch")  # as the trust keeper does
        await here.until(PeerState.QUARANTINED)
        assert {reason for _, reason in here.noted.remedies[1:3]} == {"reference-mismatch"}
        assert here.starts == 1 + ON_FAIL.max_restarts

    asyncio.run(story())


def test_one_recovery_at_a_time(here: Place) -> None:
    async def story() -> None:
        for _ in range(3):
            here.recovery.expect(here.peer, "x")
        await here.until(PeerState.QUARANTINED)
        assert here.starts == ON_FAIL.max_restarts

    asyncio.run(story())


STATUS = {
    "peers": {
        "web": {"pids": {"qemu": 1}, "kept_off": ""},
        "db": {"pids": {}, "kept_off": ""},  # it died, or is being started
        "ops": {"pids": {}, "kept_off": "by an operator"},
    }
}
OF_BEFORE = {"peers": {"web": {"pids": {"qemu": 1}}, "db": {"pids": {}}}}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (STATUS, {"web": True, "db": True, "ops": False}),
        (OF_BEFORE, {"web": True, "db": False}),
        ({}, None),
        ({"peers": []}, None),
        ({"peers": {"web": {}}}, None),
        ({"peers": {"web": 1}}, None),
    ],
    ids=str,
)
def test_the_monitor_is_asked_which_machines_are_to_run(
    tmp_path: Path, answer: dict[str, object], told: dict[str, bool] | None
) -> None:
    async def ask() -> Mapping[str, bool]:
        async def answered(request: dict[str, object], _uid: int) -> dict[str, object]:
            assert request == {"op": "status"}
            return answer

        server = await serve(tmp_path / "monitor.sock", answered)
        async with server:
            return await MonitorRestarter(tmp_path / "monitor.sock").machines()

    if told is not None:
        assert asyncio.run(ask()) == told
    else:
        with pytest.raises(RpcError, match="the monitor's status has no machines"):
            asyncio.run(ask())


def test_a_monitor_that_is_away_says_nothing_of_machines(tmp_path: Path) -> None:
    with pytest.raises(RpcError, match="nobody answers"):
        asyncio.run(MonitorRestarter(tmp_path / "monitor.sock").machines())
