"""A lease's id says whether its connections are inspected, and netd holds that against the policy."""

from dataclasses import replace

import pytest

from filters.errors import NetdError
from filters.flow import FlowKey, Protocol, Service
from filters.netd.book import Book, Lease
from filters.netd.diversion import route_payload, rule_payload
from filters.netd.state import State
from filters.ruleset.names import INSPECTED_BIT
from tests.filters.ruleset.policies import address, key, pin, policy

PLAIN = policy((pin(2), pin(3)), (key(2, 3, Protocol.TCP, 80),))
INSPECTED = replace(PLAIN, allowed=tuple(replace(one, inspected=True) for one in PLAIN.allowed))
FLOW = FlowKey(address(2), address(3), Service(Protocol.TCP, 80))


@pytest.mark.parametrize(("in_force", "lease_id"), [(PLAIN, INSPECTED_BIT | 7), (INSPECTED, 7)])
def test_rejects_a_lease_that_says_otherwise_than_the_policy(in_force: object, lease_id: int) -> None:
    state = State("eth0", None)  # type: ignore[arg-type]
    state.enforce(in_force)  # type: ignore[arg-type]
    with pytest.raises(NetdError, match="lease 0x") as refused:
        state.check_inspected(lease_id, FLOW)
    assert refused.value.code == "not-permitted"
    state.check_inspected(lease_id ^ INSPECTED_BIT, FLOW)


@pytest.mark.parametrize(("in_force", "incoming"), [(PLAIN, INSPECTED), (INSPECTED, PLAIN)])
def test_rejects_a_lease_that_the_policy_being_loaded_would_inspect_otherwise(
    in_force: object, incoming: object
) -> None:
    state = State("eth0", None)  # type: ignore[arg-type]
    state.enforce(in_force)  # type: ignore[arg-type]
    state.incoming = incoming  # type: ignore[assignment]
    with pytest.raises(NetdError, match=r"inspects .* otherwise") as refused:
        state.check_permitted(FLOW)
    assert refused.value.code == "not-permitted"
    state.incoming = in_force  # type: ignore[assignment]
    state.check_permitted(FLOW)


def test_a_policy_that_begins_to_inspect_takes_the_leases_that_are_not() -> None:
    book = Book()
    book.put(Lease(7, FLOW, 100.0))
    assert book.unpermitted(PLAIN) == []
    assert [one.lease_id for one in book.unpermitted(INSPECTED)] == [7]


def test_the_diversion_is_written_as_iproute2_writes_it() -> None:
    """ip rule add fwmark 0x40 lookup 7071; ip route add local default dev lo table 7071."""
    assert rule_payload().startswith(b"\2\0\0\0\0\0\0\1")
    assert b"\x08\0\x0a\0\x40\0\0\0" in rule_payload()
    assert route_payload(1).startswith(b"\2\0\0\0\0\4\xfe\2")
