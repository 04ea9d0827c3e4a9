"""Fragments: what is whole is inspected, whatever else a capture holds."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, in6_chksum
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from filters.inspection.finding import Refusal
from filters.inspection.offline import fragments
from filters.inspection.offline.fragments import MOST_FRAGMENTS, Fragments
from filters.inspection.packet import Fragment, Unreadable
from tests.filters.inspection.drive import EICAR
from tests.filters.inspection.test_offline import inspect, pcap

EIGHT = b"12345678"


def piece(key: object, offset: int, data: bytes, *, more: bool = True) -> Fragment:
    return Fragment((key,), offset, more, 17, data)


def lines_run(module: str, work: Callable[[], object]) -> int:
    """Count the lines of a module that some work runs: what it costs, whatever else the machine does."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename == module else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def test_finds_what_two_fragments_carry_behind_fragments_that_nobody_accepts() -> None:
    taken = Fragments()
    for key in range(MOST_FRAGMENTS + 8):
        with pytest.raises(Unreadable, match="empty fragment"):
            taken.add(piece(key, 0, b""))
        taken.add(piece(key, 0, EIGHT))
        assert taken.add(piece(key, 8, b"x", more=False)) is not None
        assert taken.left == 0


def test_makes_room_by_forgetting_the_oldest_and_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MOST_FRAGMENTS", 20)
    taken = Fragments()
    for key in range(30):
        taken.add(piece(key, 0, EIGHT))
    assert taken.left == 30
    assert len(taken._waiting) == 20
    assert taken.add(piece(29, 8, b"x", more=False)) == piece(29, 0, EIGHT + b"x", more=False)
    assert taken.add(piece(0, 8, b"x", more=False)) is None


def test_one_datagram_in_the_most_fragments_becomes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MOST_FRAGMENTS", 20)
    taken = Fragments()
    for at in range(30):
        assert taken.add(piece("one", at * 8, EIGHT)) is None
    whole = taken.add(piece("one", 240, b"x", more=False))
    assert whole is not None
    assert whole.data == EIGHT * 30 + b"x"


def test_bounds_the_bytes_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MOST_BYTES", 100_000)
    taken = Fragments()
    for key in range(10):
        taken.add(piece(key, 0, bytes(60_000)))
    assert len(taken._waiting) == 1
    assert taken.left == 10


@pytest.mark.parametrize(
    "pieces",
    [
        [piece(0, 8, EIGHT), piece(0, 0, EIGHT + b"x")],
        [piece(0, 0, EIGHT * 2), piece(0, 8, b"other678")],
        [piece(0, 8, EIGHT, more=False), piece(0, 16, EIGHT)],
        [piece(0, 16, EIGHT), piece(0, 8, b"x", more=False)],
        [piece(0, 8, EIGHT), piece(0, 8, b"", more=False)],
        [piece(0, 8, EIGHT, more=False), piece(0, 24, EIGHT, more=False)],
    ],
)
def test_rejects_fragments_that_receivers_join_differently(pieces: list[Fragment]) -> None:
    taken = Fragments()
    with pytest.raises(Refusal, match="fragments overlap"):
        for one in pieces:
            taken.add(one)


def test_work_on_a_datagram_grows_with_its_fragments_only() -> None:
    def take(count: int) -> None:
        taken = Fragments()
        for at in range(count):
            taken.add(piece(0, at * 8, EIGHT))
        assert taken.add(piece(0, count * 8, b"x", more=False)) is not None

    few, many = (
        lines_run(fragments.__file__, lambda count=count: take(count))  # type: ignore[misc]
        for count in (100, 400)
    )
    assert many < few * 5


def six(*headers: Packet) -> Packet:
    packet = IPv6(src="fd00::1", dst="fd00::2")
    for one in headers:
        packet /= one
    return Ether() / packet


def udp_bytes() -> bytes:
    packet = UDP(sport=40000, dport=5000, chksum=0) / Raw(b"text " * 4 + EICAR)
    packet.chksum = in6_chksum(17, IPv6(src="fd00::1", dst="fd00::2"), bytes(packet))
    return bytes(packet)


def found(packets: list[Packet]) -> list[str]:
    return [one.finding.check for one in inspect(pcap(packets))[0]]


def test_finds_what_stands_behind_destination_options_in_fragments() -> None:
    options = bytes(IPv6ExtHdrDestOpt(nh=17))
    whole = options + udp_bytes()
    first = six(IPv6ExtHdrFragment(nh=60, offset=0, m=1, id=7), Raw(whole[:32]))
    last = six(IPv6ExtHdrFragment(nh=60, offset=4, m=0, id=7), Raw(whole[32:]))
    assert found([first, last]) == ["malware.eicar"]
    assert found([last, first]) == ["malware.eicar"]


def test_finds_what_later_fragments_name_otherwise() -> None:
    """What a datagram carries says its first fragment: receivers read nothing else (RFC 8200, 4.5)."""
    whole = udp_bytes()
    first = six(IPv6ExtHdrFragment(nh=17, offset=0, m=1, id=7), Raw(whole[:32]))
    last = six(IPv6ExtHdrFragment(nh=59, offset=4, m=0, id=7), Raw(whole[32:]))
    assert found([first, last]) == ["malware.eicar"]
    assert found([last, first]) == ["malware.eicar"]


def test_finds_what_an_atomic_fragment_carries() -> None:
    options = bytes(IPv6ExtHdrDestOpt(nh=17))
    assert found([six(IPv6ExtHdrFragment(nh=17, offset=0, m=0, id=7), Raw(udp_bytes()))]) == ["malware.eicar"]
    assert found([six(IPv6ExtHdrFragment(nh=60, offset=0, m=0, id=7), Raw(options + udp_bytes()))]) == [
        "malware.eicar"
    ]


def test_empty_fragments_are_counted() -> None:
    empty = Ether() / IP(src="10.0.0.2", dst="10.0.0.3", flags="MF", proto=17)
    _, twin = inspect(pcap([empty]))
    assert twin.summary.left_out == {"empty fragment": 1}
