"""What the ruleset lets pass, and how each thing that stops being true cuts an established flow."""

import hashlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from scapy.layers.inet import TCP, IPOption_NOP, fragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from filters.flow import Protocol
from filters.reason import DropReason
from filters.ruleset.compiler import compile_ruleset
from filters.ruleset.features import Features
from filters.ruleset.names import INSPECTED_BIT
from tests.filters.ruleset import policies
from tests.filters.ruleset.network import A, B, Network
from tests.filters.ruleset.traffic import (
    ICMP,
    IP,
    UDP,
    Sniffer,
    echoes,
    frame,
    send,
    tcp_connect,
    tcp_echo,
    transfer,
    udp_socket,
)

pytestmark = pytest.mark.netns

DB = (str(policies.address(B)), 5432)
NAMES = (str(policies.address(B)), 5300)
SLACK = 0.15  # the bound is 50 ms; the rest is this machine's


@pytest.fixture
def flow(network: Network) -> Iterator[socket.socket]:
    """An established connection from A to B under lease 7."""
    network.lease("tcp . 5432")
    with tcp_echo(network.guests[B], 5432), tcp_connect(network.guests[A], DB) as client:
        assert echoes(client)
        yield client
    assert DropReason.NO_RULE not in network.drops()


def time_until_silent(client: socket.socket) -> float:
    """Send and receive every 10 ms until nothing comes back; return seconds to the last answer."""
    start = last = time.monotonic()
    client.settimeout(0.3)
    while time.monotonic() - start < 5 and echoes(client):
        last = time.monotonic()
        time.sleep(0.01)
    return last - start


# ---- passing ----


def test_leased_tcp_transfer_arrives_whole(network: Network, flow: socket.socket) -> None:
    flow.settimeout(5)
    sent = random.Random(1).randbytes(8_000_000)
    assert hashlib.sha256(transfer(flow, sent)).digest() == hashlib.sha256(sent).digest()
    assert network.drops() == {}


def test_leased_udp_passes_both_ways_with_fragments(network: Network) -> None:
    network.lease("udp . 5300")
    server = udp_socket(network.guests[B], NAMES[1])
    client = udp_socket(network.guests[A], to=NAMES)
    with server, client:
        for size in (10, 1400, 4000):
            client.send(bytes(size))
            data, back = server.recvfrom(65536)
            assert len(data) == size
            server.sendto(data, back)
            assert len(client.recv(65536)) == size
    assert network.drops() == {}


def test_leased_ping_passes(network: Network) -> None:
    network.lease("icmp")
    with Sniffer(network.guests[A]) as sniffer:
        send(network.guests[A], frame(A, B) / ICMP(type=8, id=77, seq=1) / b"hello")
        (reply,) = sniffer.packets()
    assert (reply[ICMP].type, reply[ICMP].id, reply[IP].src) == (0, 77, DB[0])
    assert network.drops() == {}


def test_port_unreachable_of_a_leased_flow_comes_back(network: Network) -> None:
    network.lease("udp . 5300")
    with udp_socket(network.guests[A], to=NAMES) as client:
        client.send(b"anybody there?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(10)
    assert network.drops() == {}


def test_rejects_an_icmp_error_about_an_inspected_flow(network: Network) -> None:
    """What it quotes is its sender's own choice, and no inspector looks at it."""
    network.lease("udp . 5300")
    network.add("live", f"{INSPECTED_BIT | 7:#x} timeout 30s")
    network.nft(
        "table inet other {\nchain before {\ntype filter hook prerouting priority -170;\n"
        f"ct mark 7 ct mark set {INSPECTED_BIT | 7:#x}\n}}\n}}\n"
    )
    try:
        with udp_socket(network.guests[A], to=NAMES) as client:
            client.send(b"anybody there?")  # the kernel of B says no
            with pytest.raises(TimeoutError):
                client.recv(10)
    finally:
        network.nft("delete table inet other\n")
    assert network.drops() == {DropReason.UNKNOWN_PROTOCOL: 1}


def test_one_way_udp_follows_a_new_lease_id(network: Network) -> None:
    network.lease("udp . 5300", lease_id=7)
    with udp_socket(network.guests[B], NAMES[1]) as server, udp_socket(network.guests[A], to=NAMES) as client:
        client.send(b"under 7")
        assert server.recv(10) == b"under 7"
        network.delete("lease", f"{policies.address(A)} . {NAMES[0]} . udp . 5300")
        network.delete("live", "7")
        network.lease("udp . 5300", lease_id=8)
        client.send(b"under 8")
        assert server.recv(10) == b"under 8"


def test_leased_on_demand_flow_is_not_held(network: Network) -> None:
    network.lease("tcp . 8000")
    with tcp_echo(network.guests[B], 8000), tcp_connect(network.guests[A], (DB[0], 8000)) as client:
        assert echoes(client)
    assert network.drops() == {}


def test_control_port_needs_neither_trust_nor_authority(fresh: Network) -> None:
    where = (str(policies.GATEWAY), policies.CONTROL_PORT)
    with tcp_echo(fresh.gateway, where[1]), tcp_connect(fresh.guests[A], where) as client:
        assert echoes(client, bytes(1000))
    assert fresh.drops() == {}


def test_gateway_itself_cannot_open_to_a_guest(network: Network) -> None:
    with tcp_echo(network.guests[B], DB[1]), pytest.raises(OSError, match=r"timed out|not permitted"):
        tcp_connect(network.gateway, DB)


def test_gateway_talks_to_itself(fresh: Network) -> None:
    with tcp_echo(fresh.gateway, 9000), tcp_connect(fresh.gateway, ("127.0.0.1", 9000)) as client:
        assert echoes(client)
    assert fresh.drops() == {}


# ---- cutting: every way in which an established flow ends ----


def test_flow_ends_when_trust_of_the_source_expires(network: Network, flow: socket.socket) -> None:
    network.delete("trusted", str(policies.address(A)))
    network.trust(A, timeout="400ms")
    assert time_until_silent(flow) < 0.4 + SLACK
    assert set(network.drops()) == {DropReason.NOT_ATTESTED}


def test_flow_ends_when_trust_of_the_destination_expires(network: Network, flow: socket.socket) -> None:
    network.delete("trusted", str(policies.address(B)))
    network.trust(B, timeout="400ms")
    assert time_until_silent(flow) < 0.4 + SLACK
    assert set(network.drops()) == {DropReason.NOT_ATTESTED}


def test_flow_ends_when_its_lease_expires(network: Network, flow: socket.socket) -> None:
    network.delete("live", "7")
    network.add("live", "7 timeout 400ms")
    assert time_until_silent(flow) < 0.4 + SLACK
    assert set(network.drops()) == {DropReason.LEASE_EXPIRED}


def test_flow_ends_when_authority_expires(network: Network, flow: socket.socket) -> None:
    network.delete("authority", '"eth0"')
    network.authorize("400ms")
    assert time_until_silent(flow) < 0.4 + SLACK
    assert set(network.drops()) == {DropReason.AUTHORITY_EXPIRED}


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (lambda network: network.delete("live", "7"), DropReason.LEASE_EXPIRED),
        (lambda network: network.nft("flush set inet quotegate live\n"), DropReason.LEASE_EXPIRED),
        (lambda network: network.delete("trusted", DB[0]), DropReason.NOT_ATTESTED),
        (lambda network: network.quarantine(DB[0]), DropReason.PEER_QUARANTINED),
        (lambda network: network.quarantine(str(policies.address(A))), DropReason.PEER_QUARANTINED),
    ],
    ids=["lease-revoked", "all-leases-revoked", "trust-withdrawn", "to-quarantined", "from-quarantined"],
)
def test_not_one_byte_after_a_cut(
    network: Network, flow: socket.socket, cut: Callable[[Network], None], reason: DropReason
) -> None:
    cut(network)
    with Sniffer(network.guests[B]) as sniffer:
        assert not echoes(flow, b"after the cut")
        assert not any(b"after the cut" in bytes(packet) for packet in sniffer.packets())
    assert set(network.drops()) == {reason}


@pytest.mark.parametrize(
    ("altered", "reason"),
    [
        (lambda packet: packet[Ether].setfieldval("src", "52:54:00:00:00:99"), DropReason.SPOOFED_SOURCE),
        (lambda packet: packet[IP].setfieldval("src", "10.77.0.99"), DropReason.SPOOFED_SOURCE),
        (lambda packet: packet[IP].setfieldval("options", [IPOption_NOP()]), DropReason.PARSE_ERROR),
    ],
    ids=["mac", "source", "options"],
)
def test_rejects_an_altered_packet_of_an_established_flow(
    network: Network, flow: socket.socket, altered: Callable[[Packet], None], reason: DropReason
) -> None:
    packet = frame(A, B) / TCP(sport=flow.getsockname()[1], dport=DB[1], flags="A") / b"x"
    altered(packet)
    with Sniffer(network.guests[B]) as sniffer:
        send(network.guests[A], packet)
        assert sniffer.packets() == []
    assert network.drops() == {reason: 1}
    assert echoes(flow)


def test_rejects_a_packet_whose_first_fragment_is_older_than_the_end_of_trust(network: Network) -> None:
    network.lease("udp . 5300")
    with udp_socket(network.guests[B], NAMES[1]) as server, udp_socket(network.guests[A], to=NAMES) as client:
        client.send(b"question")
        server.sendto(b"answer", server.recvfrom(100)[1])
        assert client.recv(100) == b"answer"
        whole = frame(A, B, id=7) / UDP(sport=client.getsockname()[1], dport=NAMES[1]) / bytes(64)
        first, last = fragment(whole[IP], fragsize=40)
        header = whole[Ether].copy()
        header.remove_payload()
        with Sniffer(network.guests[B]) as sniffer:
            send(network.guests[A], header / first)
            network.delete("trusted", DB[0])
            send(network.guests[A], header / last)
            assert sniffer.packets() == []
    assert network.drops() == {DropReason.NOT_ATTESTED: 1}


def test_mid_stream_packets_are_dropped_after_conntrack_is_flushed(
    network: Network, flow: socket.socket
) -> None:
    network.flush_conntrack()
    with Sniffer(network.guests[A]) as to_a:
        assert not echoes(flow)
        assert to_a.packets() == []  # no reset: what is invalid may belong to a living connection
    assert set(network.drops()) == {DropReason.NO_SESSION}


def test_answer_does_not_pass_after_the_lease(network: Network) -> None:
    network.lease("udp . 5300")
    with udp_socket(network.guests[B], NAMES[1]) as server, udp_socket(network.guests[A], to=NAMES) as client:
        client.send(b"question")
        _, back = server.recvfrom(100)
        network.delete("live", "7")
        server.sendto(b"answer", back)
        with pytest.raises(OSError, match="timed out"):
            client.recv(100)
    assert network.drops() == {DropReason.LEASE_EXPIRED: 1}


def test_ping_does_not_pass_after_the_lease(network: Network) -> None:
    network.lease("icmp")
    ping = frame(A, B) / ICMP(type=8, id=77)
    send(network.guests[A], ping)
    network.delete("live", "7")
    with Sniffer(network.guests[B]) as to_b:
        send(network.guests[A], ping)
        assert to_b.packets() == []
    assert network.drops() == {DropReason.LEASE_EXPIRED: 1}


def test_icmp_error_does_not_pass_after_the_lease(network: Network) -> None:
    network.lease("udp . 5300")
    with udp_socket(network.guests[B], NAMES[1]):
        send(network.guests[A], frame(A, B) / UDP(sport=4000, dport=5300))
    network.delete("live", "7")
    quoted = IP(src=str(policies.address(A)), dst=DB[0]) / UDP(sport=4000, dport=5300)
    with Sniffer(network.guests[A]) as to_a:
        send(network.guests[B], frame(B, A) / ICMP(type=3, code=3) / quoted)
        assert to_a.packets() == []
    assert network.drops() == {DropReason.LEASE_EXPIRED: 1}


def test_established_on_demand_flow_is_cut_and_not_held(network: Network) -> None:
    network.lease("tcp . 8000")
    with tcp_echo(network.guests[B], 8000), tcp_connect(network.guests[A], (DB[0], 8000)) as client:
        assert echoes(client)
        network.delete("live", "7")
        assert not echoes(client)
        assert DropReason.LEASE_EXPIRED in network.drops()
        assert DropReason.HOLD_TIMEOUT not in network.drops()


# ---- policy changes ----


def test_policy_update_keeps_trust_leases_and_flows(network: Network, flow: socket.socket) -> None:
    small = policies.small()
    more = policies.key(A, B, Protocol.TCP, 5000, 5999)
    network.update(replace(small, allowed=(*small.allowed[1:], more)))
    assert echoes(flow)
    network.lease("tcp . 5999", lease_id=9)
    with tcp_echo(network.guests[B], 5999), tcp_connect(network.guests[A], (DB[0], 5999)) as client:
        assert echoes(client)
    assert network.drops() == {}


def test_policy_update_moves_pins_and_rules(network: Network) -> None:
    small = policies.small()
    network.update(replace(small, pins=small.pins[1:], allowed=()))
    send(network.guests[A], frame(A, B) / UDP(sport=1, dport=5300))
    assert network.drops() == {DropReason.SPOOFED_SOURCE: 1}


@pytest.mark.parametrize("case", [policies.empty, policies.small, policies.twenty])
def test_every_golden_policy_loads_and_follows_another(fresh: Network, case: Callable) -> None:
    fresh.load(policies.small())
    fresh.update(case())
    fresh.update(policies.twenty())
    fresh.load(case())
    fresh.nft(compile_ruleset(case(), Features(native_queue=False, timeout_update=True, handover=True)))
