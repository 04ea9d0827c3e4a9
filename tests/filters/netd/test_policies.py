"""What a policy's loading leaves behind when somebody else changes the table amid it. The kernel is a fake."""

import asyncio
from typing import Any, cast

import pytest

from filters.flow import FlowKey, Protocol, Service
from filters.netd import policies as under_test
from filters.netd.book import Lease
from filters.netd.kernel import KernelTable
from filters.netd.leases import Leases
from filters.netd.policies import Policies
from filters.netd.state import State, boottime
from filters.ruleset.features import Features
from tests.filters.ruleset.policies import address, key, pin, policy

KEPT, LOST = (FlowKey(address(1), address(2), Service(Protocol.TCP, port)) for port in (80, 81))
BEFORE = policy((pin(1), pin(2)), (key(1, 2, Protocol.TCP, 80, 81),))
AFTER = policy((pin(1), pin(2)), (key(1, 2, Protocol.TCP, 80),))


class FakeKernel:
    """Keeps what it is told to run. A stranger changes something during each transaction in another thread."""

    features = Features(native_queue=True, timeout_update=True, handover=True)

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.expected = self.now = 1

    def generation(self) -> int:
        return self.now

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def counters(self) -> dict[str, int]:
        return {}

    def run(self, text: str) -> None:
        self.ran.append(text)
        self.now += 1
        self.expected += 1

    async def run_beside(self, text: str) -> None:
        self.run(text)
        self.now += 1


def test_rejects_the_return_of_leases_that_the_new_policy_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test.neighbours, "pin_neighbours", lambda *_: None)
    kernel = FakeKernel()
    state = State("eth0", cast(KernelTable, kernel))
    state.enforce(BEFORE)
    for lease_id, flow in ((7, KEPT), (8, LOST)):
        state.book.put(Lease(lease_id, flow, boottime() + 60))

    async def story() -> tuple[int, ...]:
        leases = Leases(state)
        removed = await Policies(state, leases).load(AFTER)
        leases.close()
        return removed

    assert asyncio.run(story()) == (8,)
    put_back = kernel.ran[-1]
    assert "delete table" in put_back
    assert ": 0x7" in put_back
    assert ": 0x8" not in put_back
    assert set(state.book.leases) == {7}
