"""Captures: whole ones give the gateway's answer, broken ones a clear end."""

import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import PcapNgWriter, PcapWriter

from filters.inspection.offline.capture import Capture, CaptureError
from filters.inspection.offline.summary import Event
from filters.inspection.offline.twin import Twin
from tests.filters.inspection.drive import EICAR, GET, SECRET, SPEC, answer, toolbox

CLIENT, SERVER = "10.0.0.2", "10.0.0.3"
CORPUS = os.environ.get("QG_CORPUS")


def pcap(packets: list[Packet], writer: type = PcapWriter) -> bytes:
    with tempfile.NamedTemporaryFile() as named:
        with writer(named.name) as file:
            for number, packet in enumerate(packets):
                packet.time = 1000 + number
                file.write(packet)
        return Path(named.name).read_bytes()


def inspect(data: bytes) -> tuple[list[Event], Twin]:
    twin = Twin(toolbox().judge(SPEC))
    return list(twin.events(Capture(io.BytesIO(data)))), twin


def up(sequence: int, data: bytes = b"", flags: str = "A", port: int = 40000) -> Packet:
    return (
        Ether()
        / IP(src=CLIENT, dst=SERVER)
        / TCP(sport=port, dport=80, seq=sequence, flags=flags)
        / Raw(data)
    )


def down(sequence: int, data: bytes = b"", flags: str = "A", port: int = 40000) -> Packet:
    return (
        Ether()
        / IP(src=SERVER, dst=CLIENT)
        / TCP(sport=80, dport=port, seq=sequence, flags=flags)
        / Raw(data)
    )


def connection(*middle: Packet) -> list[Packet]:
    return [up(99, flags="S"), down(499, flags="SA"), up(100, GET), *middle]


def checks(packets: list[Packet], writer: type = PcapWriter) -> list[str]:
    return [one.finding.check for one in inspect(pcap(packets, writer))[0]]


BAD = answer(EICAR)
HALVES = [down(500, BAD[:50]), down(550, BAD[50:])]


@pytest.mark.parametrize("writer", [PcapWriter, PcapNgWriter])
def test_findings_name_flow_frame_and_place(writer: type) -> None:
    events, twin = inspect(pcap(connection(*HALVES), writer))
    (event,) = [one for one in events if one.finding.check == "malware.eicar"]
    assert event.flow is not None
    assert (event.flow.client, event.flow.server) == ((CLIENT, 40000), (SERVER, 80))
    assert (event.frame, event.time) == (5, 1004)
    assert twin.summary.protocols == {"http": 1}
    assert twin.summary.refused_flows == 1


def test_order_repetition_and_links_do_not_matter() -> None:
    assert "malware.eicar" in checks(connection(*reversed(HALVES)))
    assert "malware.eicar" in checks(connection(HALVES[0], HALVES[0], HALVES[1], HALVES[1]))
    tagged = [Ether() / Dot1Q(vlan=7) / one[IP] for one in connection(*HALVES)]
    assert "malware.eicar" in checks(tagged)
    assert "malware.eicar" in checks([piece for one in connection(*HALVES) for piece in fragment(one, 24)])
    six = [
        Ether() / IPv6(src="fd00::1", dst="fd00::2") / one[TCP]
        for one in connection()
        if one[IP].src == CLIENT
    ]
    assert checks(
        [
            *six,
            Ether() / IPv6(src="fd00::2", dst="fd00::1") / HALVES[0][TCP],
            Ether() / IPv6(src="fd00::2", dst="fd00::1") / HALVES[1][TCP],
        ]
    )
    wrapped = 2**32 - 20
    assert "malware.eicar" in checks(
        [
            up(99, flags="S"),
            down(wrapped - 1, flags="SA"),
            up(100, GET),
            down(wrapped, BAD[:50]),
            down(30, BAD[50:]),
        ]
    )


def test_rejects_repetitions_that_say_something_else() -> None:
    fine = answer(b"y" * len(EICAR))
    assert checks(connection(down(500, fine[:50]), down(500, BAD[:50].replace(b"OK", b"KO")))) == [
        "tcp-overlap"
    ]
    assert checks(connection(down(550, fine[50:]), down(550, BAD[50:]))) == ["tcp-overlap"]
    assert checks(connection(down(550, fine[50:]), down(540, BAD[40:60]), down(500, fine[:50]))) == [
        "tcp-overlap"
    ]
    pieces = fragment(up(100, GET * 4), 48)
    changed = pieces[1].copy()
    changed[Raw].load = bytes(len(changed[Raw].load))
    assert checks([up(99, flags="S"), pieces[0], pieces[1], changed, *pieces[2:]]) == ["ip-fragment-overlap"]


def test_rejects_urgent_data() -> None:
    assert checks([up(99, flags="S"), up(100, GET, flags="UA")]) == ["tcp-urgent"]


def test_datagrams_are_scanned() -> None:
    ports = {"sport": 40000, "dport": 5000}
    assert checks([Ether() / IP(src=CLIENT, dst=SERVER) / UDP(**ports) / Raw(b"x " + SECRET)]) == [
        "secrets.aws-access-key"
    ]
    assert checks([Ether() / IP(src=CLIENT, dst=SERVER) / ICMP() / Raw(b"x " + SECRET)]) == [
        "secrets.aws-access-key"
    ]
    assert checks([Ether() / IP(src=CLIENT, dst=SERVER) / UDP(sport=40000, dport=53) / Raw(b"no dns")]) == [
        "dns-message"
    ]


def test_what_is_left_out_is_counted() -> None:
    arp = Ether(type=0x0806) / Raw(bytes(28))
    _, twin = inspect(pcap([arp, up(300, b"midstream"), Ether() / IP(proto=99) / Raw(b"x")]))
    assert twin.summary.left_out["not IP"] == 1
    assert twin.summary.left_out["IP protocol 99"] == 1
    assert any("beginning" in reason for reason in twin.summary.left_out)


@given(st.data())
def test_any_damage_to_a_capture_is_told_not_raised(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from([WHOLE, WHOLE_NG])))
    for _ in range(data.draw(st.integers(0, 8))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(4, len(whole)))])
    inspect(cut)


WHOLE, WHOLE_NG = pcap(connection(*HALVES)), pcap(connection(*HALVES), PcapNgWriter)


def test_a_capture_that_ends_early_says_where() -> None:
    _, twin = inspect(WHOLE[:-3])
    assert "frame" in twin.summary.broken
    with pytest.raises(CaptureError, match="expected a pcap"):
        Capture(io.BytesIO(b"\x7fELF"))


@pytest.mark.skipif(not CORPUS, reason="QG_CORPUS is not set: the http-evader corpus is not there to be run")
def test_every_case_of_the_corpus_is_malware_or_refused() -> None:
    files = sorted((Path(CORPUS or "") / "http-evader").glob("*.pcap"))
    assert files
    missed = []
    for file in files:
        events, _ = inspect(file.read_bytes())
        if not {one.finding.reason for one in events} & {"malware", "parse-error"}:
            missed.append(file.name)
    assert missed == []
