from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from filters.flow import FlowKey, Protocol, Service
from filters.netd.hold import Excess, HoldBook, HoldBounds, Waiting
from filters.netd.packet import PacketFlow
from filters.reason import DropReason

A = IPv4Address("10.0.0.2")
B = IPv4Address("10.0.0.3")
LIMIT = Excess(DropReason.RESOURCE_LIMIT)


def flow(port: int = 80, source_port: int = 1000, source: IPv4Address = A) -> PacketFlow:
    return PacketFlow(FlowKey(source, B, Service(Protocol.TCP, port)), source_port)


def test_first_packet_opens_a_hold() -> None:
    book = HoldBook()
    assert book.offer(11, flow(), 0.0) == Waiting(1, first=True)
    hold = book.take(1)
    assert hold is not None
    assert list(hold.packets.values()) == [11]
    assert len(book) == 0
    assert book.take(1) is None


def test_other_connection_of_the_key_joins() -> None:
    book = HoldBook()
    book.offer(11, flow(source_port=1), 0.0)
    assert book.offer(12, flow(source_port=2), 0.5) == Waiting(1, first=False)
    assert [list(hold.packets.values()) for hold in book.expired(0.8)] == [[11, 12]]


def test_rejects_second_packet_of_a_flow() -> None:
    book = HoldBook()
    book.offer(11, flow(), 0.0)
    assert book.offer(12, flow(), 0.1) == LIMIT
    assert len(book) == 1


def test_rejects_more_than_the_bound_per_peer() -> None:
    book = HoldBook()
    for port in range(16):
        assert isinstance(book.offer(port, flow(port), 0.0), Waiting)
    assert book.offer(99, flow(99), 0.0) == LIMIT
    assert isinstance(book.offer(99, flow(99, source=B), 0.0), Waiting)


def test_rejects_more_than_the_bound_in_all() -> None:
    book = HoldBook(HoldBounds(per_peer=2, total=3))
    for number in range(3):
        assert isinstance(book.offer(number, flow(source=A + number), 0.0), Waiting)
    assert book.offer(9, flow(source=A + 9), 0.0) == LIMIT


def test_released_hold_makes_room() -> None:
    book = HoldBook(HoldBounds(per_peer=1))
    book.offer(1, flow(), 0.0)
    book.take(1)
    assert book.offer(2, flow(), 0.1) == Waiting(2, first=True)


def test_expires_at_its_time_and_not_before() -> None:
    book = HoldBook()
    book.offer(1, flow(1), 0.0)
    book.offer(2, flow(2), 0.3)
    assert book.next_expiry() == 0.8
    assert book.expired(0.79) == []
    assert [hold.hold_id for hold in book.expired(0.8)] == [1]
    assert book.next_expiry() == 1.1


offers = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3), st.floats(0, 0.3)))


@given(offers)
def test_every_packet_taken_in_comes_out_once(steps: list[tuple[int, int, int, float]]) -> None:
    bounds = HoldBounds(per_peer=4, total=8)
    book, now = HoldBook(bounds), 0.0
    taken: list[int] = []
    out: list[int] = []
    for number, (source, port, source_port, pause) in enumerate(steps):
        now += pause
        out += [packet for hold in book.expired(now) for packet in hold.packets.values()]
        if isinstance(book.offer(number, flow(port, source_port, A + source), now), Waiting):
            taken.append(number)
        assert len(book) == len(taken) - len(out) <= bounds.total
    out += [packet for hold in book.clear() for packet in hold.packets.values()]
    assert sorted(out) == taken
    assert len(book) == 0
    assert book.next_expiry() is None
