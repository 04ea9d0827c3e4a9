import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet

from filters.flow import Protocol
from filters.netd.packet import NEEDED, read_flow

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
