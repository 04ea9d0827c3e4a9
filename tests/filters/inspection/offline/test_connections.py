"""Connections in captures: packets that no receiver accepts hide nothing, and no capture takes all memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from filters.inspection.finding import Refusal
from filters.inspection.offline import connections, reassembly
from filters.inspection.offline.capture import Frame
from filters.inspection.offline.reassembly import Side
from filters.inspection.offline.twin import Twin
from filters.inspection.packet import Packet as Segment
from tests.filters.inspection.drive import EICAR, SPEC, toolbox
from tests.filters.inspection.offline.test_fragments import lines_run
from tests.filters.inspection.test_offline import CLIENT, SERVER, inspect, pcap

TEXT = b"\0hello "
FAR = 1_000_000


def up(sequence: int, data: bytes = b"", flags: str = "A", ack: int = 500, port: int = 40000) -> Packet:
    ends = {"sport": port, "dport": 80}
    return Ether() / IP(src=CLIENT, dst=SERVER) / TCP(**ends, seq=sequence, ack=ack, flags=flags) / Raw(data)


def down(sequence: int, data: bytes = b"", flags: str = "A", ack: int = 100, port: int = 40000) -> Packet:
    ends = {"sport": 80, "dport": port}
    return Ether() / IP(src=SERVER, dst=CLIENT) / TCP(**ends, seq=sequence, ack=ack, flags=flags) / Raw(data)


def shake(sequence: int = 99, server: int = 499, port: int = 40000) -> list[Packet]:
    return [
        up(sequence, flags="S", ack=0, port=port),
        down(server, flags="SA", ack=sequence + 1, port=port),
        up(sequence + 1, ack=server + 1, port=port),
    ]


def seen(packets: list[Packet]) -> tuple[list[str], Twin]:
    events, twin = inspect(pcap(packets))
    return [one.finding.check for one in events], twin


HALF = up(100, TEXT + EICAR[:20])
REST = up(100 + len(HALF[Raw].load), EICAR[20:])


@pytest.mark.parametrize(
    "strays",
    [
        [up(777_777, flags="R")],
        [up(REST[TCP].seq, flags="R")],
        [up(REST[TCP].seq, b"reason", flags="RA")],
        [down(500, flags="R"), down(FAR, flags="RA")],
        [up(FAR, flags="S", ack=0)],
        [up(7, flags="S", ack=0)],
        [up(FAR, b"early", flags="S", ack=0), up(FAR + 6, b"x")],
        [up(FAR, flags="S", ack=0), up(FAR + 1, b"x"), down(500, ack=REST[TCP].seq)],
        [down(FAR, flags="SA")],
        [down(FAR, flags="S", ack=0)],
        [up(REST[TCP].seq, flags="FA")],
        [down(500, ack=REST[TCP].seq), up(REST[TCP].seq - 1, b"\xff")],
        [down(500, ack=REST[TCP].seq), up(REST[TCP].seq - 1, b"\x17", flags="PA")],
        # late: the client's stack asked before it sent what came before this
        [down(500, ack=110), up(109, b"\xff"), up(106, b"\xff", flags="PA")],
    ],
)
def test_finds_what_stands_behind_packets_that_no_receiver_accepts(strays: list[Packet]) -> None:
    found, _ = seen([*shake(), HALF, *strays, REST])
    assert found == ["malware.eicar"]


def test_finds_what_stands_behind_a_keep_alive_of_which_nobody_tells_whether_it_was_answered() -> None:
    found, _ = seen([up(99, flags="S", ack=0), HALF, up(REST[TCP].seq - 1, b"\0"), REST])
    assert found == ["malware.eicar"]


@pytest.mark.parametrize(
    "start",
    [
        [up(FAR, flags="S", ack=0), *shake()],
        [up(FAR, flags="S", ack=0), up(FAR + 1, b"x"), *shake()],
        [up(99, flags="S", ack=0), up(FAR, flags="S", ack=0), up(FAR + 1, b"x"), *shake()[1:]],
        [up(99, flags="S", ack=0), up(7, flags="S", ack=0), *shake()[1:]],
        [*shake(), up(FAR, flags="S", ack=0)],
    ],
)
def test_finds_what_a_client_sends_that_begins_twice(start: list[Packet]) -> None:
    found, _ = seen([*start, HALF, REST])
    assert found == ["malware.eicar"]


@pytest.mark.parametrize("stray", [FAR, 7])
@pytest.mark.parametrize("first", [True, False])
def test_finds_what_a_server_sends_that_begins_twice(stray: int, *, first: bool) -> None:
    opens, answers, _ = shake()
    wrong = down(stray, flags="SA", ack=100)
    both = [wrong, answers] if first else [answers, wrong]
    half, rest = down(500, TEXT + EICAR[:20]), down(527, EICAR[20:])
    assert seen([opens, *both, up(100, ack=500), half, rest])[0] == ["malware.eicar"]


def test_finds_what_a_connection_carries_that_uses_the_same_ports_again() -> None:
    former = [*shake(), up(100, TEXT * 9), down(500, TEXT)]
    for again in (shake(FAR, FAR), shake(7, 8), shake(120, 505)):
        sequence = again[2][TCP].seq
        later = [up(sequence, TEXT + EICAR[:20]), up(sequence + 27, EICAR[20:])]
        found, twin = seen([*former, *again, *later])
        assert found == ["malware.eicar"]
        assert twin.summary.flows == 2
        assert not twin.summary.left_out


@pytest.mark.parametrize("middle", [[], [up(163, flags="FA")], [up(163, flags="R")]])
def test_finds_what_one_direction_shows_of_ports_used_again(middle: list[Packet]) -> None:
    packets = [up(99, flags="S", ack=0), up(100, TEXT * 9), *middle, up(6, flags="S", ack=0)]
    assert seen([*packets, up(7, TEXT + EICAR)])[0] == ["malware.eicar"]
    packets = [down(99, flags="SA"), down(100, TEXT * 9), down(6, flags="SA"), down(7, TEXT + EICAR)]
    assert seen(packets)[0] == ["malware.eicar"]


@pytest.mark.parametrize(
    "end",
    [
        [up(100, TEXT, flags="FA"), down(500, flags="FA")],
        [up(100, TEXT + EICAR)],
    ],
)
def test_finds_what_follows_a_connection_that_is_over_though_no_answer_shows(end: list[Packet]) -> None:
    found, twin = seen([*shake(), *end, up(FAR, flags="S", ack=0), up(FAR + 1, TEXT + EICAR)])
    assert found[-1] == "malware.eicar"
    assert twin.summary.flows == 2
    repeated = up(99, flags="S", ack=0)
    assert seen([*shake(), *end, repeated])[1].summary.flows == 1


def test_finds_what_comes_out_of_order_when_ports_are_used_again() -> None:
    swapped = [up(FAR + 28, EICAR[20:]), up(FAR + 1, TEXT + EICAR[:20])]
    assert seen([*shake(), up(100, TEXT), *shake(FAR, FAR)[:2], *swapped])[0] == ["malware.eicar"]


sequences = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 400))
strays = st.one_of(
    st.builds(up, sequences, st.just(b""), st.sampled_from(["R", "RA", "S", "A", "FA", "SR", "U"])),
    st.builds(up, sequences, st.binary(max_size=3), st.just("R")),
    st.builds(up, st.integers(1 << 16, 2**32 - 1), st.binary(max_size=3), st.just("S")),
    st.builds(up, st.integers(1 << 16, 1 << 31), st.sampled_from([b"", b"x"]), st.sampled_from(["A", "FA"])),
    st.builds(down, sequences, st.just(b""), st.sampled_from(["R", "S", "A", "FA", "SA"])),
)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_finds_what_comes_in_any_order_among_any_strays(data: st.DataObject) -> None:
    text = TEXT + EICAR
    ends = [*sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=5))), len(text)]
    pieces = [up(100 + at, text[at:end]) for at, end in zip([0, *ends], ends, strict=False)]
    packets = data.draw(st.permutations(pieces))
    for one in data.draw(st.lists(strays, max_size=6)):
        packets.insert(data.draw(st.integers(0, len(packets))), one)
    assert "malware.eicar" in seen([*shake(), *packets])[0]


DOUBTFUL = TEXT + b"AKIA" + b"QYLPMN5HIEXAMPLE"  # only the next byte says whether it ends here


def test_judges_what_a_half_closed_connection_held_when_its_ports_are_used_again() -> None:
    former = [*shake(), up(100, TEXT, flags="FA"), down(500, DOUBTFUL), down(9000, b"behind")]
    found, twin = seen([*former, *shake(FAR, FAR)])
    assert found == ["secrets.aws-access-key"]
    assert twin.summary.left_out == {"segments behind a gap": 1}
    assert twin.summary.flows == 2


def test_counts_what_comes_from_before_a_connections_beginning() -> None:
    _, twin = seen([up(1000, TEXT), up(100, TEXT + EICAR)])
    assert twin.summary.left_out["segments from before their connection's beginning"] == 1
    _, twin = seen([*shake(), up(100, TEXT), up(107, b"why", flags="R")])
    assert twin.summary.left_out["resets with data, which nobody reads"] == 1


@pytest.mark.parametrize(
    "again",
    [
        [up(106, b"x")],
        [down(500, ack=100), up(106, b"\0")],
        [down(500, ack=106), up(106, b"x", flags="PA")],
        [up(106, b"\0", flags="PA")],
        [down(500, ack=FAR), up(106, b"x")],
        [down(500, ack=107), up(106, b"x", flags="FA")],
        [down(500, ack=107), up(105, b"ox")],
    ],
)
def test_rejects_a_repeated_byte_that_is_no_keep_alive(again: list[Packet]) -> None:
    assert seen([*shake()[:1], up(100, TEXT), *again])[0] == ["tcp-overlap"]


def test_rejects_a_repetition_that_differs_in_the_part_that_is_remembered() -> None:
    side = Side()
    for at in range(300):
        list(side.take(segment(1 + at * 1000, b"a" * 1000)))
    assert len(side.kept) <= 1 << 18
    last = b"a" * 999 + b"b"
    with pytest.raises(Refusal, match="tcp-overlap"):
        list(side.take(segment(1, b"a" * 299_000 + last)))


def segment(sequence: int, data: bytes, flags: int = 16) -> Segment:
    return Segment(CLIENT, SERVER, 6, 40000, 80, data, flags, sequence)


def test_work_on_a_gap_grows_with_its_segments_only() -> None:
    def take(count: int) -> None:
        side, found = Side(), bytearray()
        list(side.take(segment(0, b"", flags=2)))
        for at in range(count, 1, -1):
            assert not list(side.take(segment(at, b"a")))
        for piece in side.take(segment(1, b"a")):
            found += piece
        assert found == b"a" * count
        assert (side.held, side.order, side.waiting) == (0, [], {})

    few, many = (lines_run(reassembly.__file__, lambda count=count: take(count)) for count in (100, 400))  # type: ignore[misc]
    assert many < few * 5


def test_rejects_more_segments_behind_a_gap_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reassembly, "MOST_SEGMENTS", 50)
    found, twin = seen([*shake(), *(up(200 + at * 2, b"x") for at in range(60))])
    assert found == ["tcp-gap"]
    assert twin.summary.left_out == {"segments behind a gap": 51}


def test_a_refused_connection_keeps_nothing() -> None:
    packets = [*shake(), up(100, TEXT * 900), up(9000, b"behind"), up(110, b"other")]
    twin_connections = seen_connections(packets)
    (only,) = twin_connections._open.values()
    assert only.inspector is None
    assert [one.size for one in only.sides] == [0, 0]
    assert twin_connections._held == 0


def seen_connections(packets: list[Packet]) -> connections.Connections:
    """Take packets, and leave connections as they are then."""
    twin = Twin(toolbox().judge(SPEC))
    for number, one in enumerate(packets):
        list(twin._frame(Frame(number, 0.0, 1, bytes(one), len(one))))
    return twin._connections


def test_forgets_the_oldest_of_too_many_connections_and_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_FLOWS", 10)
    many = [up(99, flags="S", ack=0, port=1024 + at) for at in range(50)]
    assert len(seen_connections(many)._open) == 10
    found, twin = seen([*shake(), HALF, *many, *shake(port=41000), up(100, TEXT + EICAR, port=41000)])
    assert found == ["malware.eicar"]
    assert twin.summary.flows == 52
    assert twin.summary.left_out["connections forgotten while open: too many or too much at once"] == 42
    assert sum(twin.summary.protocols.values()) == 52


def test_forgets_what_was_silent_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_FLOWS", 3)
    others = [up(99, flags="S", ack=0, port=port) for port in (1024, 1025, 1026, 1027)]
    assert seen([*shake(), *others[:2], HALF, *others[2:], REST])[0] == ["malware.eicar"]


def test_judges_what_the_connection_held_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_FLOWS", 1)
    found, _ = seen([*shake(), up(100, DOUBTFUL), *shake(port=41000)])
    assert found == ["secrets.aws-access-key"]


def test_bounds_what_all_connections_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_HELD", 20_000)
    packets = [
        one
        for port in range(1024, 1064)
        for one in (*shake(port=port), up(9000, bytes(1000), port=port), up(100, bytes(1000), port=port))
    ]
    left = seen_connections(packets)
    assert 1 < len(left._open) <= 20
    assert left._held == sum(one.weight for one in left._open.values()) <= 20_000
