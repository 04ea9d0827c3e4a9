"""What flows hold back together, and what one guest may have of it."""

import pytest

from filters.inspection.finding import LimitHit
from filters.inspection.worker.memory import Memory
from filters.reason import DropReason


def test_one_guest_that_holds_much_leaves_room_for_others() -> None:
    memory = Memory(1000)
    memory.hold(("a", "b"), 700)
    with pytest.raises(LimitHit) as raised:
        memory.hold(("a", "c"), 100)
    assert raised.value.reason is DropReason.RESOURCE_LIMIT
    memory.hold(("c", "d"), 200)
    memory.hold(("a", "b"), -700)
    memory.hold(("a", "c"), 100)


def test_more_flows_read_less_at_once() -> None:
    memory = Memory()
    alone, memory.flows = memory.read_size, 4096
    assert (alone, memory.read_size) == (256 << 10, 16 << 10)
