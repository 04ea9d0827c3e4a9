"""What window scales legs offer."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP

from filters.inspection.worker.windows import offer, read_shift
from filters.netd.tcp_socket import read_connection


@pytest.mark.parametrize(
    ("options", "shift"),
    [
        ([("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)], 7),
        ([("WScale", 0)], 0),
        ([("WScale", 200)], 14),  # RFC 7323 section 2.3
        ([("MSS", 1460)], None),
        ([("EOL", None), ("WScale", 7)], None),
        ([], None),
    ],
)
def test_reads_what_a_client_offers(options: list[tuple[str, object]], shift: int | None) -> None:
    packet = bytes(IP(src="10.0.0.2", dst="10.0.0.3") / TCP(flags="S", options=options))
    assert read_shift(packet) == shift


@given(st.binary(max_size=80))
def test_reads_whatever_comes(packet: bytes) -> None:
    shift = read_shift(packet)
    assert shift is None or 0 <= shift <= 14


@pytest.mark.parametrize("shift", [0, 3, 6])
def test_a_leg_offers_what_it_is_told(shift: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        offer(client, shift)
        client.connect(server.getsockname())
        near, _ = server.accept()
        assert read_connection(near).window_shifts[0] == shift
        offer(server, shift)
        with near, socket.create_connection(server.getsockname()) as other:
            assert read_connection(other).window_shifts[0] == shift
            server.accept()[0].close()
        offer(server, None)
        with socket.create_connection(server.getsockname()) as other:
            assert read_connection(other).window_shifts[0] > 6
