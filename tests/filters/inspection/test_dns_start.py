"""DNS over TCP shows by what its servers bear: odd first messages hide nothing of those behind them."""

import struct

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR

from filters.inspection.protocols.dns_start import begins_dns
from filters.inspection.protocols.identify import LONGEST, Guess, guess
from filters.inspection.spec import InspectionSpec
from tests.filters.inspection.drive import DOWN, SECRET, UP, Driven, exchange


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def asked(name: str = "a.example", *, flags: int = 0x0100, times: int = 1, family: int = 1) -> bytes:
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    question = labels + b"\0" + struct.pack(">2H", 1, family)
    return framed(struct.pack(">6H", 7, flags, times, 0, 0, 0) + question * times)


# each is one that dnsmasq 2.90 answers or passes over; then it answers the next message
ODD = {
    "two questions": asked(times=2),
    "no question": framed(struct.pack(">6H", 7, 0x0100, 0, 0, 0, 0)),
    "an update": asked(flags=0x2800),
    "an inverse question": asked(flags=0x0900),
    "a reserved bit": asked(flags=0x0140),
    "an error": asked(flags=0x0103),
    "an answer": asked(flags=0x8100),
    "a class of nobody": asked(family=7, times=2),
    "a short message": framed(b"A"),
    "short messages": framed(b"A" * 11) * 5 + framed(b"A"),
    "a transfer": framed(bytes(DNS(qd=DNSQR(qname="z", qtype=251), ns=DNSRR(rrname="z", rdata="192.0.2.1")))),
}
ANSWER = framed(bytes(DNS(id=9, qr=1, qd=DNSQR(qname="b.x"), an=DNSRR(rrname="b.x", rdata="192.0.2.1"))))


@pytest.mark.parametrize("first", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_odd_first_message_hides_no_name(first: bytes, size: int) -> None:
    """A secret over two labels shows only in what is read as DNS."""
    story = first + asked(f"{SECRET.decode()[:9]}.x") + asked(f"x{SECRET.decode()}.example")
    driven = exchange([(UP, story[at : at + size]) for at in range(0, len(story), size)])
    assert driven.inspector.protocol == "dns"
    assert driven.cut is not None
    assert driven.out[UP] != driven.sent[UP]


def test_a_tunnel_behind_an_odd_first_message_is_found() -> None:
    driven = Driven().feed(UP, ODD["two questions"])
    for number in range(60):
        name = f"{number:02}mzxw6ytboi4tqnzygm2dkmrtgqza{number:02}.t.example"
        driven.feed(UP, asked(name))
    assert driven.cut is not None
    assert driven.cut.check == "dns-tunnel"


def test_a_rule_that_demands_dns_lets_updates_and_transfers_pass() -> None:
    spec = InspectionSpec(frozenset({"secrets"}), protocol="dns")
    for one in ("an update", "a transfer"):
        driven = exchange([(UP, ODD[one]), (DOWN, ANSWER)], spec)
        assert driven.findings == []
        assert driven.out == driven.sent


def test_rejects_answers_of_dns_to_who_did_not_ask() -> None:
    """Counts that don't fit are no message's: what the server says then shows it."""
    junk = framed(struct.pack(">6H", 1, 0x0100, 9, 9, 9, 9) + b"\xff" * 20)
    for error in (ANSWER, framed(struct.pack(">6H", 1, 0x8101, 0, 0, 0, 0))):
        assert exchange([(UP, junk + asked()), (DOWN, error)]).checks == ["protocol-mismatch"]


def test_a_long_message_shows_by_its_first_question() -> None:
    name = b"\x01a\x07example\0"
    long = struct.pack(">6H", 1, 0x0103, 40, 0, 0, 0) + (name + b"\0\1\0\1") * 40
    assert len(long) > LONGEST
    assert guess(UP, framed(long)[:LONGEST]) is Guess.DNS
    assert guess(UP, framed(long)[:28]) is None
    assert guess(UP, framed(long.replace(b"\0\1\0\1", b"\0\1\0\7"))[:LONGEST]) is Guess.OTHER
    answer = bytes(DNS(qr=1, qd=DNSQR(qname="a"), an=[DNSRR(rrname="a", type="TXT", rdata=["x" * 200])] * 3))
    seen = [guess(DOWN, framed(answer)[:end]) for end in range(1, LONGEST + 1)]
    assert set(seen[:20]) == {None}
    assert set(seen[20:]) == {Guess.DNS}


OTHERS = (
    bytes.fromhex("0000000804d2162f"),  # PostgreSQL asks for TLS
    struct.pack(">2I", 8 + 62, 196608) + b"user\0bob\0database\0shop\0client_encoding\0UTF8\0\0" + bytes(15),
    bytes.fromhex("0300001324e00000000000000100080000000000") + b"Cookie: mstshash=x\r\n",  # RDP
    bytes.fromhex("0000002a0012000300000001000973736172616d61") + bytes(29),  # Kafka
    b"HS\x11\0\0\0\0\1" + bytes(8), b"HS\x11\0\0\0\0\1" + bytes(8) + b"HS\6\0" + bytes(600),  # HiSLIP: an instrument
    b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"\x10\x1a\0\4MQTT\4\2\0\x3c\0\x0eclient-0000001", b"\5\1\0", bytes(2000),
    b"\x80\x2e\1\3\1\0\x15\0\0\0\x10" + bytes(37), b"<stream:stream to='a'>", b"\1\0\0\0\x01",
)  # fmt: skip


@pytest.mark.parametrize("start", OTHERS)
def test_first_bytes_of_other_protocols_are_no_dns(start: bytes) -> None:
    seen = [guess(UP, start[:end]) for end in range(1, min(len(start), LONGEST) + 1)]
    assert Guess.DNS not in seen
    assert exchange([(UP, start), (DOWN, b"N" + bytes(30))]).findings == []


def test_words_are_told_at_once() -> None:
    """Nobody waits for more of a short text, or of what begins with a length of four bytes."""
    ask_for_tls = struct.pack(">2I", 8, 80877103)  # PostgreSQL
    for text in (b"PING\r\n", b"*1\r\n$4\r\n", b"hello", ask_for_tls, bytes(4)):
        assert begins_dns(text, LONGEST, answer=False) is False
    assert begins_dns(b"+OK\r\n", LONGEST, answer=True) is False
