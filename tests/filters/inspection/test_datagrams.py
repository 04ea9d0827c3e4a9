"""Datagrams: DNS and its tunnels, secrets in one or over several, answers, and what is no datagram of ours."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP

from filters.inspection.assignments import Assignment, Assignments
from filters.inspection.datagrams import IDLE_S, MOST_FLOWS, Datagrams
from filters.inspection.finding import Finding
from filters.inspection.spec import InspectionSpec, OnError
from filters.reason import DropReason
from tests.filters.inspection.drive import EICAR, SECRET, toolbox

A, B = "10.0.0.2", "10.0.0.3"
CLIENT_PORT = 40000


def udp(payload: bytes, port: int = 53, *, answer: bool = False, client_port: int = CLIENT_PORT) -> bytes:
    ends = (B, A, port, client_port) if answer else (A, B, client_port, port)
    return bytes(IP(src=ends[0], dst=ends[1]) / UDP(sport=ends[2], dport=ends[3]) / payload)


def echo(payload: bytes, *, answer: bool = False) -> bytes:
    source, destination = (B, A) if answer else (A, B)
    return bytes(IP(src=source, dst=destination) / ICMP(type=0 if answer else 8) / payload)


def query(name: str) -> bytes:
    return bytes(DNS(rd=1, qd=DNSQR(qname=name)))


@dataclass
class Inspected:
    """The inspector of all ports from A to B, and what it told."""

    spec: InspectionSpec = InspectionSpec(frozenset({"secrets", "malware"}))  # noqa: RUF009 - frozen
    told: list[Finding] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.assignments = Assignments(
            (Assignment(17, A, B, 1, 65535, "r", self.spec), Assignment(1, A, B, 0, 0, "r", self.spec))
        )
        self.datagrams = Datagrams(
            toolbox().judge, toolbox().lacking, lambda _flow, finding: self.told.append(finding)
        )

    def __call__(self, packet: bytes) -> DropReason | None:
        return self.datagrams.verdict(packet, self.assignments, self.now)


def test_clean_datagrams_pass_both_ways() -> None:
    inspect = Inspected()
    answer = bytes(DNS(qr=1, qd=DNSQR(qname="a.example"), an=DNSRR(rrname="a.example", rdata="192.0.2.1")))
    assert inspect(udp(query("a.example"))) is None
    assert inspect(udp(answer, answer=True)) is None
    assert inspect(udp(b"text", port=9)) is None
    assert inspect(udp(b"", port=9)) is None
    assert inspect(echo(b"ping")) is None
    assert inspect(echo(b"ping", answer=True)) is None
    assert not inspect.told


@pytest.mark.parametrize("answer", [False, True])
@pytest.mark.parametrize(
    "send", [lambda data, answer: udp(data, 9, answer=answer), lambda data, answer: echo(data, answer=answer)]
)
def test_stops_a_secret_either_way_and_the_flow_with_it(send: object, answer: bool) -> None:
    inspect = Inspected()
    assert inspect(send(b"x", False)) is None  # type: ignore[operator]
    assert inspect(send(b"a " + SECRET + b" b", answer)) is DropReason.DATA_LEAK  # type: ignore[operator]
    assert inspect(send(b"x", False)) is DropReason.DATA_LEAK  # type: ignore[operator]
    assert len(inspect.told) == 1
    assert SECRET.decode() not in str(inspect.told)


@given(st.integers(1, len(EICAR) - 1))
def test_finds_what_is_spread_over_two_datagrams(at: int) -> None:
    inspect = Inspected()
    assert inspect(udp(b"x" + EICAR[:at], 9)) is None
    assert inspect(udp(EICAR[at:], 9)) is DropReason.MALWARE


def test_a_secret_at_the_very_end_needs_nothing_behind_it() -> None:
    assert Inspected()(udp(SECRET, 9)) is DropReason.DATA_LEAK


def test_a_secret_is_found_whatever_the_datagram_before_it_ended_with() -> None:
    inspect = Inspected()
    assert inspect(udp(b"word", 9)) is None
    assert inspect(udp(SECRET, 9)) is DropReason.DATA_LEAK


@pytest.mark.parametrize("spec", [InspectionSpec(), InspectionSpec(frozenset({"secrets"}), protocol="dns")])
def test_an_empty_message_first_hides_no_dns_behind_it(spec: InspectionSpec) -> None:
    """Servers pass over a header without a question, or answer it with an error; what comes next counts."""
    empty = b"\0\1\1\0" + bytes(8)
    inspect = Inspected(spec)
    assert inspect(udp(empty)) is None
    assert inspect(udp(b"no dns")) is DropReason.PARSE_ERROR
    inspect = Inspected(spec)
    assert inspect(udp(empty)) is None
    names = [f"{number:02}mzxw6ytboi4tqnzygm2dkmrtgqza{number:02}.t.example" for number in range(60)]
    assert [inspect(udp(query(name))) for name in names][-1] is DropReason.DATA_LEAK


def test_finds_a_secret_in_a_name_and_in_a_text_record() -> None:
    assert Inspected()(udp(query(f"{SECRET.decode()}.example"))) is DropReason.DATA_LEAK
    text = bytes(
        DNS(
            qr=1,
            qd=DNSQR(qname="a.example"),
            an=DNSRR(rrname="a.example", type="TXT", rdata=[SECRET[:9], SECRET[9:]]),
        )
    )
    inspect = Inspected()
    assert inspect(udp(query("a.example"))) is None
    assert inspect(udp(text, answer=True)) is DropReason.DATA_LEAK


def test_finds_a_tunnel_though_every_query_has_another_port() -> None:
    inspect, reasons = Inspected(), []
    for number in range(60):
        name = f"{number:02}k3jq9x0vb7mz2wp5tr8y1ghc4nd6fs.t.example"
        reasons.append(inspect(udp(query(name), client_port=2000 + number)))
    assert reasons[0] is None
    assert reasons[-1] is DropReason.DATA_LEAK
    assert inspect.told[0].check == "dns-tunnel"


def test_refuses_what_is_no_dns_where_dns_was_spoken() -> None:
    inspect = Inspected()
    assert inspect(udp(query("a.example"), 5353)) is None
    assert inspect(udp(b"something else", 5353)) is DropReason.PARSE_ERROR
    assert Inspected()(udp(b"something else")) is DropReason.PARSE_ERROR


def test_refuses_another_protocol_than_the_rule_demands() -> None:
    inspect = Inspected(InspectionSpec(frozenset({"secrets"}), protocol="dns"))
    assert inspect(udp(query("a.example"), 99)) is None
    assert inspect(udp(b"something else", 98)) is DropReason.PARSE_ERROR
    assert inspect(echo(b"x")) is DropReason.UNKNOWN_PROTOCOL


def test_on_error_pass_lets_the_unreadable_pass_but_no_secret() -> None:
    inspect = Inspected(InspectionSpec(frozenset({"secrets"}), on_error=OnError.PASS))
    assert inspect(udp(b"no dns")) is None
    assert [one.reason for one in inspect.told] == [DropReason.PARSE_ERROR]
    assert (
        Inspected(InspectionSpec(frozenset({"secrets"}), on_error=OnError.PASS))(udp(SECRET, 9))
        is DropReason.DATA_LEAK
    )


def test_on_error_pass_scans_the_unreadable_too() -> None:
    inspect = Inspected(InspectionSpec(frozenset({"secrets"}), on_error=OnError.PASS))
    assert inspect(udp(SECRET + b" no dns")) is DropReason.DATA_LEAK
    assert {one.reason for one in inspect.told} == {DropReason.PARSE_ERROR, DropReason.DATA_LEAK}


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45" + bytes(18),
        udp(b"text", 9)[:-1],
        udp(b"text", 9) + b"x",
        bytes(IP(src=A, dst=B) / UDP(sport=1, dport=9, len=10) / b"hidden behind the length"),
        bytes(IP(src=A, dst=B) / UDP(sport=1, dport=9, len=0) / b"text"),
        bytes(IP(src=A, dst=B, flags="MF") / UDP(sport=1, dport=9) / b"text"),
        bytes(IP(src=A, dst=B, frag=1) / UDP(sport=1, dport=9) / b"text"),
        bytes(IP(src=A, dst=B) / TCP(sport=1, dport=9) / b"text"),
        bytes(IP(src=A, dst=B) / ICMP(type=13) / b"text"),
        bytes(IP(src=A, dst=B) / ICMP(type=8, code=1) / b"text"),
    ],
    ids=[
        "nothing", "half a header", "too short", "too long", "hidden behind the length", "no length",
        "first fragment", "later fragment", "tcp", "timestamp request", "echo with a code",
    ],
)  # fmt: skip
def test_refuses_a_packet_that_is_not_what_it_says(packet: bytes) -> None:
    assert Inspected()(packet) is DropReason.PARSE_ERROR


def test_nobody_assigned_is_inspector_down() -> None:
    inspect = Inspected()
    assert inspect(udp(b"x", 9, answer=True)) is DropReason.INSPECTOR_DOWN  # answers what nobody asked
    assert inspect(echo(b"x", answer=True)) is DropReason.INSPECTOR_DOWN
    inspect.assignments = Assignments()
    assert inspect(udp(b"x", 9)) is DropReason.INSPECTOR_DOWN


def test_a_flow_of_a_rule_that_changed_is_inspected_anew() -> None:
    inspect = Inspected()
    assert inspect(udp(SECRET, 9)) is DropReason.DATA_LEAK
    inspect.assignments = Assignments(
        (Assignment(17, A, B, 1, 65535, "r", InspectionSpec(frozenset({"malware"}))),)
    )
    assert inspect(udp(SECRET, 9)) is None


def test_a_rule_whose_patterns_are_missing_lets_nothing_pass() -> None:
    inspect = Inspected(InspectionSpec(frozenset({"marks"})))
    assert inspect(udp(b"x", 9)) is DropReason.INSPECTOR_DOWN
    assert [one.check for one in inspect.told] == ["material"]


def test_flows_are_forgotten() -> None:
    inspect = Inspected()
    assert inspect(udp(SECRET, 9)) is DropReason.DATA_LEAK
    inspect.now = IDLE_S + 1
    assert inspect(udp(b"x", 9)) is None
    for number in range(MOST_FLOWS + 10):
        assert inspect(udp(b"x", 9, client_port=1024 + number)) is None
    assert len(inspect.datagrams._flows) == MOST_FLOWS * 3 // 4


def to(server: str, payload: bytes, client_port: int, *, client: str = A, answer: bool = False) -> bytes:
    ends = (server, client, 9, client_port) if answer else (client, server, client_port, 9)
    return bytes(IP(src=ends[0], dst=ends[1]) / UDP(sport=ends[2], dport=ends[3]) / payload)


def test_keeps_the_flows_of_others_when_one_guest_opens_very_many() -> None:
    inspect = Inspected()
    guest = "10.0.0.9"
    inspect.assignments = Assignments(
        tuple(Assignment(17, client, B, 1, 65535, "r", inspect.spec) for client in (A, guest))
    )
    assert inspect(to(B, b"ask", 7, client=guest)) is None
    for number in range(MOST_FLOWS + 100):
        assert inspect(to(B, b"x", 1024 + number)) is None
    assert inspect(to(B, b"answer", 7, client=guest, answer=True)) is None
    assert inspect(to(B, b"more", 8, client=guest)) is None


def test_keeps_a_cut_however_many_flows_follow() -> None:
    inspect = Inspected()
    assert inspect(to(B, SECRET, 7)) is DropReason.DATA_LEAK
    for number in range(MOST_FLOWS + 100):
        inspect(to(B, b"x", 1024 + number))
    assert inspect(to(B, b"x", 7)) is DropReason.DATA_LEAK


def test_refuses_a_new_flow_to_a_guest_whose_share_is_cut() -> None:
    inspect = Inspected()
    share = MOST_FLOWS * 3 // 4
    for number in range(share):
        assert inspect(to(B, SECRET, 1024 + number)) is DropReason.DATA_LEAK
    told = len(inspect.told)
    assert inspect(to(B, b"x", 7)) is DropReason.RESOURCE_LIMIT
    assert len(inspect.told) == told
    inspect.now = IDLE_S + 1
    assert inspect(to(B, b"x", 7)) is None
    assert len(inspect.datagrams._flows) == 1
