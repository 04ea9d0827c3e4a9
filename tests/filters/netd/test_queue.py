"""What the kernel drops before netd sees it: each such packet is counted."""

import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from filters.flow import FlowKey, Protocol, Service
from filters.netd import netlink as nl
from filters.netd.queue import PacketQueue
from filters.reason import DropReason
from filters.ruleset.names import INSPECTED_BIT
from tests.filters.netd.daemon import Client, Daemon
from tests.filters.ruleset import policies
from tests.filters.ruleset.network import A, B
from tests.filters.ruleset.traffic import udp_socket

DNS = FlowKey(policies.address(A), policies.address(B), Service(Protocol.UDP, 5300))
FLOOD = 20_000


class FakeNetlink:
    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers

    def arrived(self, _kind: int, _most: int) -> Iterator[bytes]:
        for number in self._numbers:
            yield bytes(nl.NFGEN_LENGTH) + nl.attribute(1, number.to_bytes(4, "big") + bytes(3))


@pytest.mark.parametrize(
    ("last", "numbers", "missed"),
    [(0, (1, 2, 3), 0), (0, (3, 4), 2), (4, (5, 9), 3), (0xFFFF_FFFE, (0xFFFF_FFFF, 0, 2), 1)],
)
def test_counts_the_packets_between_two_that_came(last: int, numbers: tuple[int, ...], missed: int) -> None:
    queue = PacketQueue.__new__(PacketQueue)
    queue._last, queue.missed, queue._netlink = last, 0, FakeNetlink(*numbers)  # type: ignore[assignment]
    assert [one.packet_id for one in queue.receive()] == list(numbers)
    assert queue.missed == missed


@pytest.mark.netns
def test_rejects_no_datagram_uncounted_when_the_queue_is_full(client: Client, daemon: Daemon) -> None:
    small = policies.small()
    client.set_up(replace(small, allowed=tuple(replace(one, inspected=True) for one in small.allowed)))
    client.call(client.netd.grant(INSPECTED_BIT | 7, DNS, 30_000))
    with udp_socket(daemon.network.guests[A]) as sender:
        daemon.process.send_signal(signal.SIGSTOP)  # nobody empties the queue
        for _ in range(FLOOD):
            sender.sendto(bytes(400), (str(DNS.destination), 5300))
        daemon.process.send_signal(signal.SIGCONT)
        counters = client.call(client.netd.counters())
        for more in range(1, 50):
            sender.sendto(b"", (str(DNS.destination), 5300))  # what is missed shows by the next that comes
            time.sleep(0.1)
            counters = client.call(client.netd.counters())
            if sum(counters.values()) == FLOOD + more:
                break
    assert sum(counters.values()) == FLOOD + more
    assert counters[DropReason.RESOURCE_LIMIT] > 0
