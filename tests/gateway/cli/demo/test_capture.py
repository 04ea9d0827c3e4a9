"""What is taken out of captured packets."""

from scapy.layers.inet import IP, TCP
from scapy.packet import Raw

from gateway.cli.demo.capture import payload


def test_the_payload_is_what_follows_both_headers() -> None:
    options = [("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)]
    packet = bytes(IP() / TCP(options=options) / Raw(b"carried"))
    assert payload(packet) == b"carried"


def test_padding_of_a_short_frame_is_no_payload() -> None:
    packet = bytes(IP() / TCP())
    assert payload(packet + bytes(6)) == b""
