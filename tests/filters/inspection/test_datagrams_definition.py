"""One look at a datagram finds what the definition finds: its stream, and the datagram as it stands alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, UDP

from filters.inspection.assignments import Assignment, Assignments
from filters.inspection.datagram_header import pack_ends, plain_ends, read_datagram
from filters.inspection.datagrams import IDLE_S, DatagramFlow, Datagrams
from filters.inspection.finding import Direction
from filters.inspection.matching.database import Database
from filters.inspection.matching.scanner import Scanner, scan_whole
from filters.inspection.packet import Unreadable
from filters.inspection.patterns.load import secrets
from filters.inspection.patterns.malware import MALWARE
from filters.inspection.patterns.pattern import WORD, Pattern
from filters.inspection.protocols.dns_tunnel import TunnelWatch
from filters.inspection.spec import InspectionSpec
from tests.filters.inspection.drive import EICAR, SECRET, toolbox

A, B = "10.0.0.2", "10.0.0.3"
DOTTED = "SG.aB3dE6gH9jK2mN5pQ8sT1v.aB3dE6gH9jK2mN5pQ8sT1vaB3dE6gH9jK2mN5pQ8sT1"  # a token of three labels
SHIPPED = Database((*secrets(), *MALWARE))
# whole, in parts that only make sense together, and what begins like one
PARTS = (
    EICAR, EICAR[:20], EICAR[20:], SECRET, SECRET[:9], SECRET[9:], b"a" + SECRET, b"\x14" + SECRET, b"ftp://me:pass", b"word@host.example",
    b"pay 4111111111111111", b"2345", b" ", b"\n", b"text", b"SK" + b"0a" * 16, b"glpat-aB3dE6gH9jK2mN5pQ8sT",
)  # fmt: skip
pieces = st.lists(st.one_of(st.sampled_from(PARTS), st.binary(max_size=40)), max_size=4).map(b"".join)
talks = st.lists(st.tuples(st.sampled_from(Direction), pieces), min_size=1, max_size=8)


def alone(database: Database, data: bytes) -> set[str]:
    """Look at bytes in a stream of their own."""
    scanner = Scanner(database)
    found = {one.pattern.name for one in scanner.scan(data)}
    found |= {scanner.doubtful.pattern.name} if scanner.doubtful else set()
    scanner.close()
    return found


@pytest.mark.parametrize("detectors", [{"secrets", "malware"}, {"secrets", "personal"}, set()])
@given(talks)
@settings(max_examples=150, deadline=None)
def test_finds_what_two_looks_find(detectors: set[str], talk: list[tuple[Direction, bytes]]) -> None:
    spec = InspectionSpec(frozenset(detectors))
    judge = toolbox().judge(spec)
    flow = DatagramFlow(17, (A, 1), (B, 9), Assignment(17, A, B, 9, 9, "r", spec), judge)
    streams = {way: Scanner(judge.patterns) for way in Direction}
    for way, payload in talk:
        expected = {one.pattern.name for one in streams[way].scan(payload)} | alone(judge.patterns, payload)
        assert {one.check for one in flow.inspect(way, payload, TunnelWatch)} == expected
    flow.close()


labels = st.lists(
    st.sampled_from(["www", "AKIAQYLPMN5HI", "EXAMPLE", SECRET.decode()]), min_size=1, max_size=4
)


@given(st.lists(st.one_of(labels, st.just(DOTTED.split("."))), max_size=5))
@settings(max_examples=100, deadline=None)
def test_finds_in_names_what_two_looks_find(names: list[list[str]]) -> None:
    spec = InspectionSpec()
    judge = toolbox().judge(spec)
    flow = DatagramFlow(17, (A, 1), (B, 53), Assignment(17, A, B, 53, 53, "r", spec), judge)
    stream = Scanner(judge.patterns)
    for labels in names:
        name = ".".join(labels)
        payload = bytes(DNS(rd=1, qd=DNSQR(qname=name)))
        expected = {one.pattern.name for one in stream.scan(payload)}
        expected |= alone(judge.patterns, payload + b"\n" + name.encode())
        found = {one.check for one in flow.inspect(Direction.TO_SERVER, payload, TunnelWatch)}
        assert found == expected
        assert expected or name != DOTTED


@given(st.lists(pieces, min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_texts_that_stand_alone_share_a_stream_and_nothing_else(texts: list[bytes]) -> None:
    for text in texts:
        assert {one.pattern.name for one in scan_whole(SHIPPED, text)} == alone(SHIPPED, text)


@given(pieces, pieces, pieces)
@settings(max_examples=200, deadline=None)
def test_a_part_of_a_text_has_no_hits_that_the_text_has_not(before: bytes, part: bytes, after: bytes) -> None:
    hits: tuple[set[tuple[int, int]], set[tuple[int, int]]] = (set(), set())
    for kept, text, shift in zip(hits, (part, before + part + after), (len(before), 0), strict=True):
        watch = SHIPPED.watch(lambda number, end, kept=kept, shift=shift: kept.add((number, end + shift)))  # type: ignore[misc]
        watch.scan(text)
        watch.close()
    assert SHIPPED.stands_alone
    assert hits[0] <= hits[1]


@pytest.mark.parametrize(
    "expression",
    [rb"^ab", rb"ab$", rb"-\bb", rb"a\Bb", rb"\Aab", rb"ab\z", rb"ab|^c", rb"(?:\[|^)ab", rb"ab|\bcd", rb"\Qab\E"],
)  # fmt: skip
def test_looks_twice_where_an_expression_looks_beside(expression: bytes) -> None:
    database = Database((Pattern("mine", "patterns", expression),))
    assert not database.stands_alone
    assert database.may_match(b"anything")


@pytest.mark.parametrize(
    "expression", [rb"ab", rb"[^x]b", WORD + rb"ab", rb"ab\b", rb"(?:ab|cd)[0-9]{2,9}", rb"(?i)ab"]
)
def test_looks_once_where_it_does_not(expression: bytes) -> None:
    database = Database((Pattern("mine", "patterns", expression),))
    assert database.stands_alone
    assert not database.may_match(b"xyz")
    assert database.may_match(b"-ab12-")
    assert not database.may_match(b"xyz")


@given(
    st.sampled_from((UDP(sport=7, dport=9), UDP(sport=7, dport=9, len=8), ICMP(type=8))), st.binary(max_size=30),
    st.dictionaries(st.integers(0, 40), st.integers(0, 255), max_size=2), st.integers(0, 3),
)  # fmt: skip
@settings(deadline=None)
def test_the_short_way_into_a_packet_reads_what_the_long_one_reads(
    layer: UDP | ICMP, payload: bytes, bent: dict[int, int], cut: int
) -> None:
    packet = bytearray(bytes(IP(src=A, dst=B) / layer / payload))
    for at, value in bent.items():
        packet[at % len(packet)] = value
    data = bytes(packet[: len(packet) - cut])
    ends = plain_ends(data)
    if ends:
        read, asks = read_datagram(data)
        assert asks is None
        assert ends == pack_ends((read.source, read.source_port), (read.destination, read.destination_port))
        assert read.payload == data[28:]
    elif data[:1] == b"\x45" and data[9:10] == b"\x11":
        with pytest.raises(Unreadable):
            read_datagram(data)


def test_the_short_way_ends_with_the_flow_and_with_its_rule() -> None:
    spec = InspectionSpec()
    told: list[object] = []
    datagrams = Datagrams(toolbox().judge, toolbox().lacking, lambda _flow, finding: told.append(finding))
    rules = Assignments((Assignment(17, A, B, 1, 65535, "r", spec),))
    packet = bytes(IP(src=A, dst=B) / UDP(sport=7, dport=9) / b"text")
    answer = bytes(IP(src=B, dst=A) / UDP(sport=9, dport=7) / b"text")
    for one in (packet, answer, packet):
        assert datagrams.verdict(one, rules, 0.0) is None
    assert datagrams.verdict(packet, Assignments(), 0.0) is not None
    assert datagrams.verdict(packet, rules, 0.0) is None
    assert datagrams.verdict(answer, rules, IDLE_S + 1) is not None  # nobody asked for so long
    assert datagrams._ways == {}
