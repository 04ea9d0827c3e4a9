"""What becomes of a failed peer when its machine can't be restarted, or is not to be."""

import asyncio
from ipaddress import IPv4Address
from typing import Any

from authn.portmap import PortEntry
from filters.policy.model import OnFail
from gateway.recovery.recovery import Recovery
from gateway.registry.registry import PeerRecord, Registry
from gateway.registry.states import PeerState
from gateway.rpc import RpcError
from tests.gateway.test_silence import Clock, Deaf

WITHIN_S = 20.0


class Notes(Deaf):
    """Keeps the times of restarts, and whom the operator has to release."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.quarantined: list[str] = []

    def restarts(self, _name: str) -> list[float]:
        return self.times

    def add_restart(self, _name: str, at: float) -> None:
        self.times.append(at)

    def quarantine(self, name: str, _reason: str) -> None:
        self.quarantined.append(name)

    def note(self, _event: object) -> None:
        pass


class Refuses:
    """A monitor that refuses every restart."""

    def __init__(self, code: str) -> None:
        self.code, self.asked = code, 0

    async def machines(self) -> dict[str, bool]:
        return {"web": True}

    async def restart(self, peer: str, reason: str) -> None:
        self.asked += 1
        raise RpcError(self.code, f"{peer}: {reason}")


async def recover(code: str) -> tuple[Refuses, Notes, PeerRecord]:
    place = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")
    registry = Registry((place,), lambda *_: None)
    peer = registry.by_name("web")
    assert peer is not None
    peer.state, peer.silent_since = PeerState.FAILED, 1.0
    monitor, notes = Refuses(code), Notes()
    deaf: Any = Deaf()
    budget = OnFail("restart", 2, 900.0, "quarantine")
    untyped: Any = notes
    recovery = Recovery(
        registry, deaf, untyped, untyped, monitor, Clock(), lambda _: budget, lambda _: True, 1.0  # type: ignore[arg-type]
    )  # fmt: skip
    recovery.begin(peer, "no-answer")
    async with asyncio.timeout(WITHIN_S):
        while recovery._running:
            await asyncio.sleep(0.01)
    return monitor, notes, peer


def test_a_machine_that_an_operator_switched_off_just_then_is_left_alone() -> None:
    monitor, notes, peer = asyncio.run(recover("kept-off"))
    assert (monitor.asked, notes.quarantined) == (1, [])
    assert peer.state is PeerState.RESTARTING  # once it runs it attests, and is trusted


def test_a_machine_that_can_not_be_restarted_ends_in_quarantine() -> None:
    monitor, notes, peer = asyncio.run(recover("start-failed"))
    assert (monitor.asked, notes.quarantined) == (2, ["web"])
    assert peer.state is PeerState.QUARANTINED
    assert peer.silent_since is None  # else its release would find it silent for long
