import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet

from filters.flow import Protocol
from filters.netd.packet import NEEDED, read_flow, spread

ENDS = IP(src="10.0.0.2", dst="10.0.0.3")


@pytest.mark.parametrize(
    ("packet", "text", "discriminator"),
    [
        (ENDS / TCP(sport=4000, dport=80), "10.0.0.2 -> 10.0.0.3 tcp/80", 4000),
        (ENDS / UDP(sport=4001, dport=53), "10.0.0.2 -> 10.0.0.3 udp/53", 4001),
        (ENDS / ICMP(id=77), "10.0.0.2 -> 10.0.0.3 icmp/echo", 77),
    ],
)
def test_reads_what_opens_a_connection(packet: Packet, text: str, discriminator: int) -> None:
    flow = read_flow(bytes(packet)[:NEEDED])
    assert flow is not None
    assert (str(flow.key), flow.discriminator) == (text, discriminator)


@pytest.mark.parametrize(
    "packet",
    [
        ENDS / ICMP(type=0),
        ENDS / ICMP(type=8, code=1),
        IP(src="10.0.0.2", dst="10.0.0.3", proto=47) / b"12345678",
        IP(src="10.0.0.2", dst="10.0.0.3", flags="MF") / TCP(),
        IP(src="10.0.0.2", dst="10.0.0.3", frag=8) / TCP(),
    ],
)
def test_refuses_what_opens_none(packet: Packet) -> None:
    assert read_flow(bytes(packet)) is None


@given(st.binary(max_size=80))
def test_never_raises(data: bytes) -> None:
    flow = read_flow(data)
    assert flow is None or flow.key.service.protocol in Protocol


ADDRESSES = st.tuples(*[st.ip_addresses(v=4).map(str)] * 2)


@given(ADDRESSES, st.integers(0, 65535), st.integers(0, 65535))
def test_datagrams_of_two_machines_stay_together_in_both_directions(
    ends: tuple[str, str], one: int, other: int
) -> None:
    there = bytes(IP(src=ends[0], dst=ends[1]) / UDP(sport=one, dport=other))
    back = bytes(IP(src=ends[1], dst=ends[0]) / UDP(sport=other, dport=one))
    assert spread(there) == spread(back)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_connections_of_two_machines_are_spread_evenly(parts: int) -> None:
    counts = [0] * parts
    packet = bytearray(bytes(ENDS / TCP(dport=80)))
    for port in range(32768, 60999):
        packet[20:22] = port.to_bytes(2, "big")
        counts[spread(bytes(packet)) % parts] += 1
    assert max(counts) < 1.1 * min(counts)


@given(st.binary(max_size=30))
def test_spreads_whatever_comes(untrusted: bytes) -> None:
    assert 0 <= spread(untrusted) < 1 << 16
