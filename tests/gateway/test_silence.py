"""Whose silence it is: a peer is charged with it only for the time in which the gateway itself was awake."""

import asyncio
from ipaddress import IPv4Address
from typing import Any

import pytest

from authn.portmap import PortEntry
from gateway.registry.registry import PeerRecord
from gateway.registry.states import PeerState
from gateway.trust.keeper import TrustKeeper

T = 0.2
LIMIT = 25 * T


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    wall = now


class Deaf:
    """Stands for everything the keeper tells; only failures count here."""

    def __getattr__(self, _name: str) -> Any:
        async def told(*_: object) -> None:
            return None

        return told


class Keeper(TrustKeeper):
    """Notes who would be punished."""

    def __init__(self, clock: Clock) -> None:
        deaf: Any = Deaf()
        super().__init__(deaf, deaf, deaf, deaf, clock, T, lambda _: None, deaf.cut, lambda *_: None)
        self.punished: list[float] = []

    async def fail(self, peer: PeerRecord, error: object) -> None:
        self.punished.append(self._clock.now())
        peer.silent_since = None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def silent(clock: Clock) -> PeerRecord:
    place = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")
    return PeerRecord("web", place, PeerState.STALE, silent_since=clock.at)


def look(keeper: Keeper, peer: PeerRecord) -> None:
    keeper.attend()
    asyncio.run(keeper.watch_silence(peer))


def test_a_peer_that_is_silent_past_the_limit_fails(clock: Clock, silent: PeerRecord) -> None:
    keeper = Keeper(clock)
    for _ in range(40):
        clock.at += T
        look(keeper, silent)
    assert len(keeper.punished) == 1
    assert 100 + LIMIT < keeper.punished[0] <= 100 + LIMIT + 1.5 * T


def test_nobody_is_charged_with_the_gateways_own_absence(clock: Clock, silent: PeerRecord) -> None:
    keeper = Keeper(clock)
    clock.at += 3600  # it was stopped, or the machine slept
    look(keeper, silent)
    assert keeper.punished == []
    woken = clock.at
    while not keeper.punished and clock.at < woken + 2 * LIMIT:
        clock.at += T
        look(keeper, silent)
    assert keeper.punished[0] > woken + LIMIT


def test_nobody_is_charged_with_a_tpm_that_hangs(clock: Clock, silent: PeerRecord) -> None:
    """Without a quote of ours nobody can be asked, nor come back."""
    keeper, hung = Keeper(clock), clock.at
    for _ in range(80):
        clock.at += T
        keeper.attend(clock.at - hung)
        asyncio.run(keeper.watch_silence(silent))
    assert keeper.punished == []
    answered = clock.at
    while not keeper.punished and clock.at < answered + 2 * LIMIT:
        clock.at += T
        look(keeper, silent)
    assert keeper.punished[0] > answered + LIMIT


@pytest.mark.parametrize("state", [PeerState.UNREACHABLE, PeerState.ATTESTING, PeerState.ENROLLED])
def test_a_peer_that_goes_amid_its_return_fails_as_well(
    clock: Clock, silent: PeerRecord, state: PeerState
) -> None:
    """It hung up, began a handshake, and was never heard again."""
    keeper = Keeper(clock)
    silent.state = state
    for _ in range(40):
        clock.at += T
        look(keeper, silent)
    assert len(keeper.punished) == 1


def test_a_peer_that_is_refused_for_what_it_can_not_mend_is_not_silent(
    clock: Clock, silent: PeerRecord
) -> None:
    keeper = Keeper(clock)
    silent.state = PeerState.ENROLLED
    for _ in range(80):
        clock.at += T
        silent.excused_at = clock.at - T
        look(keeper, silent)
    assert keeper.punished == []


def test_a_peer_that_was_never_trusted_may_take_its_time(clock: Clock, silent: PeerRecord) -> None:
    keeper = Keeper(clock)
    silent.state, silent.silent_since = PeerState.ENROLLED, None
    for _ in range(80):
        clock.at += T
        look(keeper, silent)
    assert keeper.punished == []
