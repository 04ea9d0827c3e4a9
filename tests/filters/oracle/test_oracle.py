"""The one evaluator and the kernel agree: random policies, really loaded; random packets, really sent.

`QG_ORACLE_POLICIES` sets how many policies are drawn (`make oracle`: 10,000); `QG_ORACLE_SEED` repeats a run.
"""

import os
import random

import pytest

from filters.reason import DropReason
from tests.filters.oracle.cases import draw_case
from tests.filters.oracle.wire import FORWARDED, Wire, expected, wire

pytestmark = pytest.mark.netns
POLICIES = int(os.environ.get("QG_ORACLE_POLICIES", "400"))
SEED = int(os.environ.get("QG_ORACLE_SEED", random.randrange(1 << 32)))
FLOWS = 4


@pytest.fixture(scope="module")
def gateway() -> Wire:
    with wire() as made:
        yield made


@pytest.mark.timeout(1800)
def test_the_kernel_decides_as_the_evaluator(gateway: Wire) -> None:
    seen: dict[str, int] = {}
    for seed in range(SEED, SEED + POLICIES):
        case = draw_case(seed, FLOWS)
        gateway.load(case)
        for request in case.requests:
            got = gateway.verdict(request)
            seen[got] = seen.get(got, 0) + 1
            assert got in expected(case, request), (
                f"QG_ORACLE_SEED={seed}: {request}: the kernel says {got}, the evaluator {case.decide(request)}\n{case.text}"
            )
    print(f"{POLICIES} policies, {sum(seen.values())} packets, from seed {SEED}: {seen}")
    every = {
        FORWARDED,
        DropReason.NO_RULE,
        DropReason.DENIED_BY_RULE,
        DropReason.NOT_ATTESTED,
        DropReason.NO_SESSION,
    }
    every |= {DropReason.PEER_QUARANTINED, DropReason.AUTHORITY_EXPIRED, DropReason.COMMUNICATION_DISABLED}
    every |= {DropReason.HOLD_TIMEOUT}
    if POLICIES >= 400:  # else the draw proves nothing about the kinds it did not meet
        assert set(seen) == {str(one) for one in every}


def test_a_wrong_ruleset_would_be_noticed(gateway: Wire) -> None:
    """The oracle can fail: with the lease map emptied behind its back, a leased flow no longer passes."""
    for seed in range(1000):
        case = draw_case(seed, FLOWS)
        leased = [one for one in case.requests if expected(case, one) == {FORWARDED}]
        if leased:
            break
    gateway.load(case)
    assert gateway.verdict(leased[0]) == FORWARDED
    gateway._run("flush map inet quotegate lease\nflush map inet quotegate lease_icmp\n")
    assert gateway.verdict(leased[0]) not in expected(case, leased[0])
