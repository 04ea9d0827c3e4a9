"""Side doors and refusals, with packets really sent: each is counted under exactly one reason."""

import contextlib
import random
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import TCP, IPOption_LSRR, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from filters.reason import DropReason
from filters.ruleset.chains import CONNECTIONS, CONTROL_CONNECTIONS
from filters.ruleset.names import INSPECTED_BIT, MARK_CONTROL, MARK_LEASED, MARK_REJECT, VISIBLE
from tests.filters.ruleset import policies
from tests.filters.ruleset.network import GATEWAY_MAC, A, B, Network
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
    udp_socket,
)

pytestmark = pytest.mark.netns

A_IP, B_IP = str(policies.address(A)), str(policies.address(B))
GATEWAY_IP = str(policies.GATEWAY)
C = 3  # another peer, without a machine of its own
DATAGRAM = UDP(sport=4000, dport=5300) / b"x"
SYN = TCP(sport=4000, dport=5432, flags="S")


def send_and_listen(network: Network, *packets: Packet) -> tuple[list[Packet], list[Packet]]:
    """Send from A; return what arrived at A and at B."""
    with Sniffer(network.guests[A]) as to_a, Sniffer(network.guests[B]) as to_b:
        send(network.guests[A], *packets)
        return to_a.packets(), to_b.packets()


def assert_dropped(network: Network, reason: DropReason, *packets: Packet) -> None:
    """Every packet counts once, under `reason` only, reaches nobody, and is answered only if it may be."""
    answers, arrived = send_and_listen(network, *packets)
    assert arrived == []
    assert network.drops() == {reason: len(packets)}
    assert len(answers) == (len(packets) if reason in VISIBLE else 0)


def lease_everything(network: Network) -> None:
    network.lease("tcp . 5432")
    network.lease("udp . 5300")
    network.lease("icmp")


# ---- who sends it ----


@pytest.mark.parametrize(
    "header",
    [
        Ether(src="52:54:00:bb:00:01", dst=GATEWAY_MAC) / IP(src=A_IP, dst=B_IP),
        Ether(src=policies.mac(A), dst=GATEWAY_MAC) / IP(src="10.77.0.9", dst=B_IP),
        Ether(src=policies.mac(A), dst=GATEWAY_MAC) / IP(src=B_IP, dst=B_IP),
        Ether(src=policies.mac(A), dst=GATEWAY_MAC) / IP(src=GATEWAY_IP, dst=B_IP),
        Ether(src=policies.mac(A), dst=GATEWAY_MAC) / IP(src="127.0.0.1", dst=B_IP),
        Ether(src=policies.mac(B), dst=GATEWAY_MAC) / IP(src=A_IP, dst=B_IP),
    ],
    ids=["foreign-mac", "free-ip", "ip-of-the-other", "ip-of-the-gateway", "loopback", "mac-of-the-other"],
)
def test_spoofed_source(network: Network, header: Packet) -> None:
    lease_everything(network)
    assert_dropped(network, DropReason.SPOOFED_SOURCE, header / DATAGRAM, header / SYN)


def test_spoofed_source_to_the_control_port(network: Network) -> None:
    header = Ether(src=policies.mac(A), dst=GATEWAY_MAC) / IP(src=B_IP, dst=GATEWAY_IP)
    assert_dropped(network, DropReason.SPOOFED_SOURCE, header / TCP(dport=policies.CONTROL_PORT, flags="S"))


def test_ipv6(network: Network) -> None:
    header = Ether(src=policies.mac(A), dst=GATEWAY_MAC) / IPv6(src="fe80::1", dst="fe80::2")
    assert_dropped(network, DropReason.UNKNOWN_PROTOCOL, header / DATAGRAM, header / SYN)


def test_ip_options(network: Network) -> None:
    lease_everything(network)
    options = (IPOption_RR(routers=["0.0.0.0"]), IPOption_LSRR(routers=[B_IP]), IPOption_NOP())
    packets = [frame(A, B, options=[option]) / DATAGRAM for option in options]
    assert_dropped(network, DropReason.PARSE_ERROR, *packets)


def test_untrusted_source(fresh: Network) -> None:
    fresh.authorize()
    fresh.trust(B)
    lease_everything(fresh)
    assert_dropped(fresh, DropReason.NOT_ATTESTED, frame(A, B) / DATAGRAM, frame(A, B) / SYN)


def test_untrusted_destination(fresh: Network) -> None:
    fresh.authorize()
    fresh.trust(A)
    lease_everything(fresh)
    packets = [frame(A, B) / DATAGRAM, frame(A, B) / SYN, frame(A, B) / ICMP()]
    assert_dropped(fresh, DropReason.NOT_ATTESTED, *packets)


def test_untrusted_destination_is_not_held_for(fresh: Network) -> None:
    fresh.authorize()
    fresh.trust(A)
    assert_dropped(fresh, DropReason.NOT_ATTESTED, frame(A, B) / TCP(dport=8000, flags="S"))


def test_foreign_interface(network: Network) -> None:
    network.update(replace(policies.small(), interface="eth1"))
    network.delete("authority", '"eth0"')  # there is only one for the policy's interface
    assert_dropped(network, DropReason.SPOOFED_SOURCE, frame(A, B) / DATAGRAM)


def test_untrusted_destination_without_rule_is_no_rule(fresh: Network) -> None:
    fresh.authorize()
    fresh.trust(A)
    assert_dropped(fresh, DropReason.NO_RULE, frame(A, B) / UDP(dport=9))


def test_fragments_of_an_untrusted_source_fill_nothing(fresh: Network) -> None:
    fresh.authorize()
    fresh.trust(B)
    control = TCP(sport=4000, dport=policies.CONTROL_PORT, flags="S")
    packets = [frame(A, B, flags="MF", id=number) / DATAGRAM / bytes(7) for number in range(1, 9)]
    packets += [frame(A, B, frag=2, id=number) / Raw(bytes(8)) for number in range(11, 19)]
    packets += [frame(A, 0, flags="MF", id=20) / control, frame(A, 0, frag=3, id=21, proto=6) / Raw(bytes(8))]
    assert_dropped(fresh, DropReason.NOT_ATTESTED, *packets)
    assert "FRAG: inuse 0" in fresh.gateway.call(Path("/proc/thread-self/net/sockstat").read_text)


@pytest.mark.parametrize("destination", [GATEWAY_IP, B_IP, "10.77.0.200"], ids=["gateway", "peer", "nobody"])
def test_fragments_to_an_untrusted_destination_fill_nothing(fresh: Network, destination: str) -> None:
    fresh.authorize()
    fresh.trust(A)
    first = frame(A, B, dst=destination, flags="MF", id=1) / DATAGRAM / bytes(7)
    later = frame(A, B, dst=destination, frag=2, id=2, proto=17) / Raw(bytes(8))
    assert_dropped(fresh, DropReason.NOT_ATTESTED, first, later)
    assert "FRAG: inuse 0" in fresh.gateway.call(Path("/proc/thread-self/net/sockstat").read_text)


def lone_first_fragments(count: int) -> list[Packet]:
    """Return first fragments from A to B, all of other packets; scapy would take ten seconds for them."""
    raw = bytes(frame(A, B, flags="MF", id=0) / UDP(sport=4000, dport=5300) / bytes(1472))
    checksum = int.from_bytes(raw[24:26], "big")
    numbers = [
        (n.to_bytes(2, "big"), ((checksum - n) % 0xFFFF).to_bytes(2, "big")) for n in range(1, count + 1)
    ]
    return [Raw(raw[:18] + number + raw[20:24] + its + raw[26:]) for number, its in numbers]


def test_fragments_are_limited_per_source_and_leave_room_for_others(network: Network) -> None:
    network.lease("udp . 5300")
    with udp_socket(network.guests[B], 5300) as server, udp_socket(network.guests[A], 4000) as client:
        client.sendto(b"question", (B_IP, 5300))
        assert server.recv(100) == b"question"
        send(network.guests[A], *lone_first_fragments(20_000))
        server.sendto(bytes(4000), (A_IP, 4000))
        assert len(client.recv(8000)) == 4000
    assert set(network.drops()) == {DropReason.RESOURCE_LIMIT}
    assert network.drops()[DropReason.RESOURCE_LIMIT] > 1000


def test_quarantined(network: Network) -> None:
    lease_everything(network)
    network.quarantine(A_IP)
    assert_dropped(network, DropReason.PEER_QUARANTINED, frame(A, B) / DATAGRAM)


# ---- authority ----


def test_no_authority_disables_communication(fresh: Network) -> None:
    fresh.trust(A, B)
    lease_everything(fresh)
    assert_dropped(fresh, DropReason.COMMUNICATION_DISABLED, frame(A, B) / DATAGRAM, frame(A, B) / SYN)


def test_expired_authority(fresh: Network) -> None:
    fresh.trust(A, B)
    lease_everything(fresh)
    fresh.add("authority_had", '"eth0"')
    assert_dropped(fresh, DropReason.AUTHORITY_EXPIRED, frame(A, B) / DATAGRAM, frame(A, B) / SYN)


# ---- what it asks for ----


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (frame(A, B) / TCP(dport=5433, flags="S"), DropReason.NO_RULE),
        (frame(A, B) / UDP(dport=5432), DropReason.NO_RULE),
        (frame(A, B, dst="10.77.0.200") / DATAGRAM, DropReason.NO_RULE),
        (frame(A, 0) / TCP(dport=22, flags="S"), DropReason.NO_RULE),
        (frame(A, B) / TCP(dport=22, flags="S"), DropReason.DENIED_BY_RULE),
        (frame(A, B) / SYN, DropReason.NO_SESSION),
        (frame(A, B) / DATAGRAM, DropReason.NO_SESSION),
        (frame(A, B) / ICMP(type=8), DropReason.NO_SESSION),
        (frame(A, B) / ICMP(type=13), DropReason.UNKNOWN_PROTOCOL),
        (frame(A, B) / ICMP(type=8, code=1), DropReason.UNKNOWN_PROTOCOL),
        (frame(A, B, proto=47) / Raw(bytes(20)), DropReason.UNKNOWN_PROTOCOL),
        (frame(A, B, proto=132) / Raw(bytes(20)), DropReason.UNKNOWN_PROTOCOL),
        (frame(A, B) / TCP(dport=8000, flags="S"), DropReason.HOLD_TIMEOUT),  # nobody has put in the queue
    ],
    ids=str,
)
def test_refused_without_a_lease(network: Network, packet: Packet, reason: DropReason) -> None:
    assert_dropped(network, reason, packet)


def test_ping_without_rule(network: Network) -> None:
    network.update(replace(policies.small(), allowed=()))
    assert_dropped(network, DropReason.NO_RULE, frame(A, B) / ICMP(type=8))


def test_ping_denied_by_rule(network: Network) -> None:
    send(network.guests[B], frame(B, A) / ICMP(type=8))
    assert network.drops() == {DropReason.DENIED_BY_RULE: 1}


def test_ping_on_demand_with_nowhere_to_wait(network: Network) -> None:
    network.update(policies.twenty())
    assert_dropped(network, DropReason.HOLD_TIMEOUT, frame(A, B) / ICMP(type=8))


@pytest.mark.parametrize("flags", ["A", "SA", "F", "R", "FPU", ""])
def test_mid_stream_segment_opens_nothing(network: Network, flags: str) -> None:
    lease_everything(network)
    answers, arrived = send_and_listen(network, frame(A, B) / TCP(sport=4000, dport=5432, flags=flags))
    assert (answers, arrived) == ([], [])
    assert network.drops() == {DropReason.NO_SESSION: 1}


def test_bound_leases_pass_nothing_but_their_key(network: Network) -> None:
    lease_everything(network)
    assert_dropped(network, DropReason.NO_RULE, frame(A, B) / UDP(sport=5300, dport=5301))


def test_reverse_open_from_the_leased_port(network: Network) -> None:
    network.lease("tcp . 5432")
    with (
        tcp_echo(network.guests[B], 5432),
        tcp_echo(network.guests[A], 6000),
        tcp_connect(network.guests[A], (B_IP, 5432)) as flow,
    ):
        assert echoes(flow)
        with pytest.raises(ConnectionRefusedError):  # a reject it can see
            tcp_connect(network.guests[B], (A_IP, 6000), port=5432)
        assert echoes(flow)
    assert network.drops() == {DropReason.NO_RULE: 1}


def test_reverse_datagram_from_the_leased_port(network: Network) -> None:
    network.lease("udp . 5300")
    with (
        udp_socket(network.guests[A], 6000) as target,
        udp_socket(network.guests[B], 5300, (A_IP, 6000)) as back,
    ):
        back.send(b"not asked for")
        with pytest.raises(TimeoutError):
            target.recv(100)
    assert network.drops() == {DropReason.NO_RULE: 1}


@pytest.mark.parametrize("mark", [MARK_LEASED, MARK_REJECT, MARK_CONTROL])
def test_packet_mark_brought_along_is_cleared(network: Network, mark: int) -> None:
    network.nft(
        "table inet marker { chain early { type filter hook prerouting priority -500; "
        f"meta mark set {mark:#x}; }}; }}\n"
    )
    try:
        assert_dropped(network, DropReason.NO_SESSION, frame(A, B) / DATAGRAM)
    finally:
        network.nft("delete table inet marker\n")


def test_control_mark_brought_along_opens_no_other_port(network: Network) -> None:
    network.nft(
        "table inet marker { chain early { type filter hook prerouting priority -500; "
        f"meta mark set {MARK_CONTROL:#x}; }}; }}\n"
    )
    try:
        with tcp_echo(network.gateway, 22), pytest.raises(ConnectionRefusedError):
            tcp_connect(network.guests[A], (GATEWAY_IP, 22))
    finally:
        network.nft("delete table inet marker\n")
    assert network.drops() == {DropReason.NO_RULE: 1}


# ---- ICMP errors ----


def error_about_flow(size: int, kind: int = 3) -> Packet:
    """Return B's ICMP error about A's datagram from port 4000 to 5300."""
    quoted = IP(src=A_IP, dst=B_IP) / UDP(sport=4000, dport=5300) / Raw(bytes(size))
    return frame(B, A) / ICMP(type=kind, code=1) / quoted


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (error_about_flow(1000), DropReason.PARSE_ERROR),
        (error_about_flow(20, kind=5), DropReason.UNKNOWN_PROTOCOL),  # a redirect
    ],
    ids=["long", "redirect"],
)
def test_icmp_error_beyond_what_is_needed(network: Network, packet: Packet, reason: DropReason) -> None:
    network.lease("udp . 5300")
    with udp_socket(network.guests[B], 5300):
        send(network.guests[A], frame(A, B) / DATAGRAM)
        with Sniffer(network.guests[A]) as to_a:
            send(network.guests[B], packet)
            assert to_a.packets() == []
    assert network.drops() == {reason: 1}


def quote_of_flow(*, of_the_answer: bool) -> Packet:
    """Return what an ICMP error about A's flow from port 4000 to 5300 quotes: A's datagram, or B's answer."""
    if of_the_answer:
        return IP(src=B_IP, dst=A_IP) / UDP(sport=5300, dport=4000) / Raw(b"of its choice")
    return IP(src=A_IP, dst=B_IP) / UDP(sport=4000, dport=5300) / Raw(b"of its choice")


@pytest.mark.parametrize(
    ("sender", "of_the_answer"),
    [(C, False), (C, True), (A, False), (B, True)],
    ids=["third-to-client", "third-to-server", "client-to-itself", "server-to-itself"],
)
def test_rejects_an_icmp_error_from_anybody_but_the_other_end(
    network: Network, sender: int, of_the_answer: bool
) -> None:
    small = policies.small()
    network.update(replace(small, pins=(*small.pins, policies.pin(C))))
    network.trust(C)
    network.lease("udp . 5300")
    with udp_socket(network.guests[B], 5300) as server, udp_socket(network.guests[A], 4000) as client:
        client.sendto(b"question", (B_IP, 5300))
        server.sendto(b"answer", server.recvfrom(100)[1])
        assert client.recv(100) == b"answer"
        receiver = B if of_the_answer else A
        error = frame(sender, receiver) / ICMP(type=3, code=1) / quote_of_flow(of_the_answer=of_the_answer)
        # no port of the host's bridge learns: the third peer's packets come from B's
        space = network.guests[sender if sender in network.guests else B]
        with Sniffer(network.guests[receiver]) as arriving:
            send(space, error)
            assert arriving.packets() == []
    assert network.drops() == {DropReason.NO_SESSION: 1}


@pytest.mark.parametrize(("sender", "receiver"), [(B, A), (A, B)], ids=["from-the-server", "from-the-client"])
def test_icmp_error_of_the_other_end_passes(network: Network, sender: int, receiver: int) -> None:
    network.lease("udp . 5300")
    with udp_socket(network.guests[B], 5300) as server, udp_socket(network.guests[A], 4000) as client:
        client.sendto(b"question", (B_IP, 5300))
        server.sendto(b"answer", server.recvfrom(100)[1])
        assert client.recv(100) == b"answer"
        error = frame(sender, receiver) / ICMP(type=3, code=1) / quote_of_flow(of_the_answer=sender == A)
        with Sniffer(network.guests[receiver]) as arriving:
            send(network.guests[sender], error)
            assert len(arriving.packets()) == 1
    assert network.drops() == {}


def test_icmp_errors_are_rate_limited(network: Network) -> None:
    network.lease("udp . 5300")
    with udp_socket(network.guests[B], 5300):
        send(network.guests[A], frame(A, B) / DATAGRAM)
        with Sniffer(network.guests[A]) as to_a:
            send(network.guests[B], *[error_about_flow(20)] * 200)
            assert len(to_a.packets()) + network.drops()[DropReason.RESOURCE_LIMIT] == 200
    assert set(network.drops()) == {DropReason.RESOURCE_LIMIT}
    assert network.drops()[DropReason.RESOURCE_LIMIT] > 100


def test_icmp_error_about_no_flow(network: Network) -> None:
    send(network.guests[B], error_about_flow(20))
    assert network.drops() == {DropReason.NO_SESSION: 1}


# ---- floods ----


def test_control_port_flood_leaves_the_other_guest_alone(fresh: Network) -> None:
    ports = random.Random(2).sample(range(1024, 65536), 300)
    where = (GATEWAY_IP, policies.CONTROL_PORT)
    with tcp_echo(fresh.gateway, where[1]):
        flood = [frame(A, 0) / TCP(sport=port, dport=where[1], flags="S") for port in ports]
        send(fresh.guests[A], *flood)
        assert fresh.drops()[DropReason.RESOURCE_LIMIT] > 200
        with tcp_connect(fresh.guests[B], where) as client:
            assert echoes(client)
    assert set(fresh.drops()) == {DropReason.RESOURCE_LIMIT}


def test_hold_flood_is_limited_per_source(network: Network) -> None:
    flood = [frame(A, B) / TCP(sport=port, dport=8000, flags="S") for port in range(2000, 2300)]
    send(network.guests[A], *flood)
    drops = network.drops()
    assert set(drops) == {DropReason.RESOURCE_LIMIT, DropReason.HOLD_TIMEOUT}
    assert sum(drops.values()) == 300
    assert drops[DropReason.RESOURCE_LIMIT] > 200


def test_rejects_a_flood_of_what_is_to_be_inspected_and_leaves_room_for_others(network: Network) -> None:
    """All wait in one queue, and what finds no room there is dropped whosever it is."""
    back = f"{B_IP} . {A_IP} . udp . 5300 timeout 30s : {INSPECTED_BIT | 8:#x}"
    network.lease("udp . 5300", lease_id=INSPECTED_BIT | 7)
    network.nft(
        f"add element inet quotegate lease {{ {back} }}\n"
        f"add element inet quotegate live {{ {INSPECTED_BIT | 8:#x} timeout 30s }}\n"
    )
    network.nft(  # a rate that any machine exceeds
        "flush chain inet quotegate inspection_limit\n"
        "add rule inet quotegate inspection_limit "
        "update @inspection_rate { ip saddr limit rate over 50/second burst 100 packets } goto drop_resource_limit\n"
        "add rule inet quotegate inspection_limit goto inspection_queue\n"
    )
    send(network.guests[A], *[Raw(bytes(frame(A, B) / UDP(sport=4000, dport=5300)))] * 2_000)
    drops = network.drops()
    assert set(drops) == {DropReason.RESOURCE_LIMIT, DropReason.INSPECTOR_DOWN}  # nobody reads the queue here
    assert sum(drops.values()) == 2_000
    assert drops[DropReason.RESOURCE_LIMIT] > 1000
    send(network.guests[B], frame(B, A) / UDP(sport=4001, dport=5300))
    assert network.drops() == drops | {DropReason.INSPECTOR_DOWN: drops[DropReason.INSPECTOR_DOWN] + 1}


def test_connections_are_limited_per_source(network: Network) -> None:
    network.lease("udp . 5300")
    with udp_socket(network.guests[B], 5300):
        send(network.guests[A], *[frame(A, B) / UDP(sport=port, dport=5300) for port in range(2000, 10500)])
    assert network.drops() == {DropReason.RESOURCE_LIMIT: 8500 - CONNECTIONS}


def test_control_connections_are_limited_per_source(fresh: Network) -> None:
    where = (GATEWAY_IP, policies.CONTROL_PORT)
    with tcp_echo(fresh.gateway, where[1]), contextlib.ExitStack() as open_ones:
        for number in range(CONTROL_CONNECTIONS):
            if number % 32 == 31:
                fresh.nft("flush set inet quotegate control_rate\n")
            open_ones.enter_context(tcp_connect(fresh.guests[A], where))
        fresh.nft("flush set inet quotegate control_rate\n")
        with pytest.raises(TimeoutError):
            tcp_connect(fresh.guests[A], where)
    assert set(fresh.drops()) == {DropReason.RESOURCE_LIMIT}


def test_refused_flood_fills_no_conntrack(network: Network) -> None:
    send(network.guests[A], *[frame(A, B) / UDP(sport=port, dport=9) for port in range(2000, 2500)])
    assert network.drops() == {DropReason.NO_RULE: 500}
    assert network.gateway.run("conntrack", "-C").strip() == "0"
