"""First packets that wait: released, refused, timed out, bounded."""

import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from filters.flow import FlowKey, Protocol, Service
from filters.netd.protocol import Held, HoldDropped
from filters.reason import DropReason
from tests.filters.netd.daemon import Client, Daemon
from tests.filters.ruleset import policies
from tests.filters.ruleset.network import A, B
from tests.filters.ruleset.traffic import ICMP, TCP, Sniffer, echoes, frame, send, tcp_connect, tcp_echo

pytestmark = pytest.mark.netns

IP_A, IP_B = policies.address(A), policies.address(B)
KEY = FlowKey(IP_A, IP_B, Service(Protocol.TCP, 8000))
WEB = (str(IP_B), 8000)


def connect_later(daemon: Daemon, timeout: float = 3.0) -> "Future[socket.socket]":
    pool = ThreadPoolExecutor(1)
    future = pool.submit(tcp_connect, daemon.network.guests[A], WEB, 0, timeout)
    pool.shutdown(wait=False)
    return future


def syn(port: int, source_port: int) -> object:
    return frame(A, B) / TCP(sport=source_port, dport=port, flags="S")


def test_released_hold_delivers_the_first_packet(ready: Client, daemon: Daemon) -> None:
    with tcp_echo(daemon.network.guests[B], 8000):
        start = time.monotonic()
        future = connect_later(daemon)
        held = ready.event(Held)
        assert held.key == KEY
        ready.call(ready.netd.grant(5, KEY, 30_000))
        ready.call(ready.netd.release(held.hold_id))
        with future.result() as connection:
            # below a SYN's retransmission: the held packet itself arrived
            assert time.monotonic() - start < 0.8
            assert echoes(connection)
    assert not any(ready.call(ready.netd.counters()).values())


def test_release_without_a_lease_drops_and_tells_the_sender(ready: Client, daemon: Daemon) -> None:
    with tcp_echo(daemon.network.guests[B], 8000):
        future = connect_later(daemon)
        held = ready.event(Held)
        ready.call(ready.netd.release(held.hold_id))
        with pytest.raises(ConnectionRefusedError):
            future.result()
    assert ready.call(ready.netd.counters())[DropReason.NO_SESSION] == 1
    assert ready.code(ready.netd.release(held.hold_id)) == "no-such-hold"


def test_hold_times_out_and_says_so(ready: Client, daemon: Daemon) -> None:
    with Sniffer(daemon.network.guests[B]) as sniffer:
        send(daemon.network.guests[A], syn(8000, 40000))
        start = time.monotonic()
        held = ready.event(Held)
        dropped = ready.event(HoldDropped)
        took = time.monotonic() - start
        assert dropped == HoldDropped(held.hold_id, KEY, DropReason.HOLD_TIMEOUT)
        assert 0.7 < took < 0.9
        assert sniffer.packets() == []
    assert ready.code(ready.netd.release(held.hold_id)) == "no-such-hold"
    assert ready.call(ready.netd.counters())[DropReason.HOLD_TIMEOUT] == 1


def test_two_connections_of_one_key_share_a_hold(ready: Client, daemon: Daemon) -> None:
    with Sniffer(daemon.network.guests[B]) as sniffer:
        send(daemon.network.guests[A], syn(8000, 40000), syn(8000, 40001))
        held = ready.event(Held)
        assert ready.call(ready.netd.snapshot()).holds == 2
        ready.call(ready.netd.grant(5, KEY, 30_000))
        ready.call(ready.netd.release(held.hold_id))
        assert {packet[TCP].sport for packet in sniffer.packets() if TCP in packet} == {40000, 40001}
    assert ready.events() == []


def test_second_packet_of_a_flow_does_not_wait(ready: Client, daemon: Daemon) -> None:
    send(daemon.network.guests[A], syn(8000, 40000), syn(8000, 40000))
    assert ready.event(HoldDropped) == HoldDropped(0, KEY, DropReason.RESOURCE_LIMIT)


def test_bound_per_peer(ready: Client, daemon: Daemon) -> None:
    send(daemon.network.guests[A], *(syn(8000 + n, 40000) for n in range(20)))
    assert ready.call(ready.netd.snapshot()).holds == 16
    dropped = ready.event(HoldDropped)
    assert (dropped.hold_id, dropped.reason) == (0, DropReason.RESOURCE_LIMIT)
    assert ready.call(ready.netd.counters())[DropReason.RESOURCE_LIMIT] == 4


def test_flood_of_first_packets_does_not_delay_requests(ready: Client, daemon: Daemon) -> None:
    stop = threading.Event()

    def flood() -> None:
        port = 0
        while not stop.is_set():
            send(daemon.network.guests[A], *(syn(8000 + n, 20000 + port + n) for n in range(50)))
            port = (port + 50) % 30000

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        times = sorted(ready.timed(ready.netd.ping()) for _ in range(200))
    finally:
        stop.set()
        flooding.join()
    assert times[197] < 0.05


def test_request_only_key_does_not_wait(ready: Client, daemon: Daemon) -> None:
    with pytest.raises(ConnectionRefusedError):
        tcp_connect(daemon.network.guests[A], (str(IP_B), 5432))
    assert ready.events() == [] or all(not isinstance(event, Held) for event in ready.events())


def test_leased_key_does_not_wait(ready: Client, daemon: Daemon) -> None:
    ready.call(ready.netd.grant(5, KEY, 30_000))
    with tcp_echo(daemon.network.guests[B], 8000), tcp_connect(daemon.network.guests[A], WEB) as connection:
        assert echoes(connection)
    assert ready.events() == []


def test_untrusted_first_packet_does_not_wait(ready: Client, daemon: Daemon) -> None:
    ready.call(ready.netd.distrust(IP_A))
    send(daemon.network.guests[A], syn(8000, 40000))
    time.sleep(0.1)
    assert not any(isinstance(event, Held) for event in ready.events())


def test_held_packets_die_with_the_client(ready: Client, daemon: Daemon) -> None:
    with Sniffer(daemon.network.guests[B]) as sniffer:
        send(daemon.network.guests[A], syn(8000, 40000))
        ready.event(Held)
        ready.close()
        time.sleep(0.1)
        assert sniffer.packets() == []


def test_rejects_no_held_packet_uncounted_when_the_client_goes(ready: Client, daemon: Daemon) -> None:
    send(daemon.network.guests[A], syn(8000, 40000))
    ready.event(Held)
    ready.close()
    successor = Client(daemon.socket)
    counters = {reason: one for reason, one in successor.call(successor.netd.counters()).items() if one}
    successor.close()
    assert counters == {DropReason.NOT_ATTESTED: 1}


def test_icmp_reply_that_nobody_asked_for_does_not_wait(ready: Client, daemon: Daemon) -> None:
    send(daemon.network.guests[A], frame(A, B) / ICMP(type=0))
    time.sleep(0.1)
    assert not any(isinstance(event, Held) for event in ready.events())
