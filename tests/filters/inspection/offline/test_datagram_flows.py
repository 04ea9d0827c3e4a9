"""Datagrams in captures: a policy's rules find what they would in the gateway, and many flows take no more memory."""

import hashlib
import io

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from filters.inspection.finding import Direction
from filters.inspection.objects.judge import Judge
from filters.inspection.offline import datagram_flows, selection
from filters.inspection.offline.capture import Capture
from filters.inspection.offline.datagram_flows import DatagramFlows
from filters.inspection.offline.selection import Selection
from filters.inspection.offline.summary import Endpoint, Event, Flow, Summary
from filters.inspection.offline.twin import Twin
from filters.inspection.packet import Packet as Datagram
from filters.inspection.protocols.dns_tunnel import HALF_S
from tests.filters.inspection.drive import EICAR, SPEC, toolbox
from tests.filters.inspection.test_offline import CLIENT, SERVER, pcap

UP, DOWN = {"src": CLIENT, "dst": SERVER}, {"src": SERVER, "dst": CLIENT}
NOT_INSPECTED = "flows that no rule inspects"


def by_rule(port: int) -> "Twin":
    """Inspect what the client asks of one port, as a policy with one rule does."""

    def choose(_: int, client: Endpoint, server: Endpoint) -> Judge | None:
        asked = client[0] == CLIENT and (server[0], server[1]) == (SERVER, port)
        return toolbox().judge(SPEC) if asked else None

    return Twin(choose)


def run(twin: Twin, packets: list[Packet]) -> list[Event]:
    return list(twin.events(Capture(io.BytesIO(pcap(packets)))))


def udp(way: dict[str, str], source: int, destination: int, data: bytes = EICAR) -> Packet:
    return Ether() / IP(**way) / UDP(sport=source, dport=destination) / Raw(data)


def echo(way: dict[str, str], kind: int, data: bytes = EICAR) -> Packet:
    return Ether() / IP(**way) / ICMP(type=kind, id=1, seq=1) / Raw(data)


def test_a_flow_that_is_refused_at_its_first_packet_spoke_nothing() -> None:
    twin = by_rule(53)
    (one,) = run(twin, [udp(UP, 4000, 53, b"no dns")])
    assert one.finding.check == "dns-message"
    assert (twin.summary.refused_flows, twin.summary.protocols) == (1, {"none": 1})


@pytest.mark.parametrize("port", [4000, 6000])
def test_finds_in_datagrams_what_a_rule_inspects_whichever_port_is_higher(port: int) -> None:
    (up,) = run(by_rule(5000), [udp(UP, port, 5000)])
    assert up.flow is not None
    assert (up.flow.client, up.finding.direction) == ((CLIENT, port), Direction.TO_SERVER)
    twin = by_rule(5000)
    (down,) = run(twin, [udp(UP, port, 5000, b"asks"), udp(DOWN, 5000, port)])
    assert down.flow == up.flow
    assert down.finding.direction is Direction.TO_CLIENT
    assert (twin.summary.flows, twin.summary.left_out) == (1, {})


@pytest.mark.parametrize("port", [4000, 6000])
def test_finds_in_answers_whose_question_came_before_the_capture(port: int) -> None:
    (found,) = run(by_rule(5000), [udp(DOWN, 5000, port)])
    assert found.finding.direction is Direction.TO_CLIENT
    (found,) = run(by_rule(0), [echo(DOWN, 0)])
    assert found.finding.direction is Direction.TO_CLIENT


def test_the_first_packet_says_who_the_client_is_where_both_ways_are_inspected() -> None:
    (found,) = run(Twin(toolbox().judge(SPEC)), [udp(UP, 4000, 5000)])
    assert found.flow is not None
    assert found.flow.client == (CLIENT, 4000)


def test_finds_in_echo_replies_what_a_rule_inspects() -> None:
    twin = by_rule(0)
    (found,) = run(twin, [echo(UP, 8, b"asks"), echo(DOWN, 0)])
    assert found.flow is not None
    assert found.flow.client == (CLIENT, 0)
    assert (twin.summary.flows, twin.summary.left_out) == (1, {})
    six = [
        Ether() / IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoRequest(data=b"asks"),
        Ether() / IPv6(src="fd00::2", dst="fd00::1") / ICMPv6EchoReply(data=EICAR),
    ]
    (found,) = run(Twin(toolbox().judge(SPEC)), six)
    assert found.flow is not None
    assert found.flow.client == ("fd00::1", 0)


def test_what_the_other_end_asks_is_a_flow_of_its_own() -> None:
    twin = by_rule(0)
    assert not run(twin, [echo(UP, 8, b"asks"), echo(DOWN, 8)])
    assert twin.summary.left_out == {NOT_INSPECTED: 1}


def test_a_reply_answers_the_other_end_whatever_was_asked_before() -> None:
    (found,) = run(Twin(toolbox().judge(SPEC)), [echo(DOWN, 8, b"asks"), echo(DOWN, 0)])
    assert found.flow is not None
    assert (found.flow.client, found.finding.direction) == ((CLIENT, 0), Direction.TO_CLIENT)


@pytest.mark.parametrize("port", [4000, 6000])
def test_finds_in_connections_without_a_beginning_what_a_rule_inspects(port: int) -> None:
    up = Ether() / IP(**UP) / TCP(sport=port, dport=5000, seq=7, flags="A") / Raw(b"\0" + EICAR)
    down = Ether() / IP(**DOWN) / TCP(sport=5000, dport=port, seq=7, flags="A") / Raw(b"\0" + EICAR)
    for packet, way in ((up, Direction.TO_SERVER), (down, Direction.TO_CLIENT)):
        (found,) = run(by_rule(5000), [packet])
        assert found.flow is not None
        assert (found.flow.client, found.finding.direction) == ((CLIENT, port), way)


def test_what_no_rule_inspects_is_counted_once_a_flow() -> None:
    twin = by_rule(5000)
    assert not run(twin, [udp(UP, 4000, 5001), udp(DOWN, 5001, 4000), udp(UP, 4000, 5001)])
    assert (twin.summary.flows, twin.summary.left_out) == (1, {NOT_INSPECTED: 1})


def test_takes_no_months_names_for_a_tunnel() -> None:
    flows = DatagramFlows(Selection(lambda *_: toolbox().judge(SPEC), Summary()), Summary(), lambda _: None)

    def found(every_s: float) -> set[str]:
        return {
            one.check
            for at in range(60)
            for _, one in flows.datagram(asks(hashlib.sha256(bytes([at])).hexdigest()[:40]), at * every_s)
        }

    assert found(HALF_S) == set()
    assert found(1) == {"dns-tunnel"}


def asks(label: str) -> Datagram:
    name = b"".join(bytes([len(one)]) + one.encode() for one in (label, "example", "com"))
    return Datagram(CLIENT, SERVER, 17, 40000, 53, b"\0\1\1\0\0\1\0\0\0\0\0\0" + name + b"\0\0\1\0\1")


def test_forgets_the_oldest_of_too_many_flows_and_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagram_flows, "MOST_FLOWS", 10)
    twin = Twin(toolbox().judge(SPEC))
    run(twin, [udp(UP, port, 5000, b"text") for port in range(1024, 1074)])
    assert twin.summary.left_out == {"flows of datagrams forgotten: too many at once": 40}
    assert twin.summary.protocols == {"udp": 50}


def test_forgets_what_was_silent_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagram_flows, "MOST_FLOWS", 3)
    first, *others = (udp(UP, port, 5000, b"text") for port in range(1024, 1029))
    halves = udp(UP, 1024, 5000, EICAR[:20]), udp(UP, 1024, 5000, EICAR[20:])
    packets = [first, *others[:2], halves[0], *others[2:], halves[1]]
    assert [one.finding.check for one in run(Twin(toolbox().judge(SPEC)), packets)] == ["malware.eicar"]


def test_remembers_only_the_latest_flows_that_nobody_inspects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MOST_FLOWS", 10)
    nobody = Selection(lambda *_: None, Summary())
    for port in [*range(50), 41]:
        assert nobody.find(17, Flow("udp", (CLIENT, port), (SERVER, 5000))) is None
    assert [flow.client[1] for _, flow in nobody._left_out] == [40, *range(42, 50), 41]


def test_bounds_what_is_remembered_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagram_flows, "MOST_TUNNELS", 10)
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"
    flows = DatagramFlows(Selection(lambda *_: toolbox().judge(SPEC), Summary()), Summary(), lambda _: None)
    for at in range(30):
        list(flows.datagram(Datagram(f"10.0.1.{at}", SERVER, 17, 40000, 53, query), 0.0))
    assert [client for client, _ in flows._tunnels] == [f"10.0.1.{at}" for at in range(20, 30)]
    flows.finish()
