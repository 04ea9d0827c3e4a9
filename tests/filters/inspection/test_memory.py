"""What flows hold back together, and what one guest may have of it."""

import pytest

from filters.inspection.finding import LimitHit
from filters.inspection.worker.memory import Memory
from filters.reason import DropReason


@pytest.mark.parametrize("what", ["held", "kept"])
def test_one_guest_that_has_much_leaves_room_for_others(what: str) -> None:
    memory = Memory(1000, 1000)
    memory.count(what, ("a", "b"), 700)
    with pytest.raises(LimitHit) as raised:
        memory.count(what, ("a", "c"), 100)
    assert raised.value.reason is DropReason.RESOURCE_LIMIT
    memory.count(what, ("c", "d"), 200)
    memory.count(what, ("a", "b"), -700)
    memory.count(what, ("a", "c"), 100)


def test_more_flows_read_less_at_once() -> None:
    memory = Memory()
    alone, memory.flows = memory.read_size, 4096
    assert (alone, memory.read_size) == (256 << 10, 16 << 10)
