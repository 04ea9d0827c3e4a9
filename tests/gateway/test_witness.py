"""What this machine's kernel says of its TCP connections, asked of it directly."""

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from ipaddress import IPv4Address
from unittest.mock import Mock

import pytest

from gateway.agent import tcp_diag
from gateway.agent.tcp_diag import Connection, TcpCount, TcpDiag
from gateway.agent.witness import Witness

HERE = IPv4Address("127.0.0.1")


@pytest.fixture
def diag() -> Iterator[TcpDiag]:
    with closing(TcpDiag()) as found:
        yield found


def listener(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::", 0))
    sock.listen(64)
    return sock


def connected(listening: socket.socket) -> tuple[socket.socket, socket.socket, Connection]:
    client = socket.create_connection((str(HERE), listening.getsockname()[1]))
    server, _ = listening.accept()
    there = client.getsockname()[1]
    return client, server, Connection((HERE, listening.getsockname()[1]), (HERE, there))


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "both-families"])
def test_a_connection_is_witnessed_while_it_lives_and_afterwards(
    diag: TcpDiag, family: socket.AddressFamily
) -> None:
    """Most servers listen at a socket of IPv6 that takes IPv4 too."""
    with closing(listener(family)) as listening:
        client, server, connection = connected(listening)
        client.sendall(b"hello")
        until(lambda: diag.find(connection) == TcpCount(1, 5, False))
        client.close()
        server.close()
        past: dict[Connection, TcpCount] = {}
        until(lambda: past.update(diag.closed()) or connection in past)  # type: ignore[func-returns-value]
        assert past[connection].payload_received == 5
        assert diag.find(connection) is None


def test_a_connection_that_is_not_there_is_not_taken_for_who_listens(diag: TcpDiag) -> None:
    with closing(listener(socket.AF_INET)) as listening:
        assert diag.find(Connection((HERE, listening.getsockname()[1]), (HERE, 1))) is None


def test_rejects_walking_all_connections_for_one_question(
    diag: TcpDiag, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may send to this machine makes the connections and asks the questions; beacons are answered in between."""
    parsed, parse = 0, tcp_diag.parse

    def counting(data: bytes, *, closed: bool) -> tuple[list[tuple[Connection, TcpCount]], bool]:
        nonlocal parsed
        found = parse(data, closed=closed)
        parsed += len(found[0])
        return found

    monkeypatch.setattr(tcp_diag, "parse", counting)
    with ExitStack() as kept:
        listening = kept.enter_context(closing(listener(socket.AF_INET)))
        for _ in range(50):
            client, server, connection = connected(listening)
            kept.enter_context(closing(client))
            kept.enter_context(closing(server))
        assert diag.find(connection) is not None
    assert parsed == 1


def test_announcements_that_the_kernel_had_no_room_for_cost_no_others(diag: TcpDiag) -> None:
    lost = OSError(errno.ENOBUFS, "No buffer space available")
    diag.close()
    diag._closing = Mock(recv=Mock(side_effect=[lost, b"", BlockingIOError()]))
    assert diag.closed() == []
    assert diag._closing.recv.call_count == 3


def test_what_is_over_is_found_by_its_name() -> None:
    over = Connection((HERE, 5432), (IPv4Address("10.0.0.2"), 40_000))
    kernel = Mock(find=Mock(return_value=None), closed=Mock(return_value=[(over, TcpCount(7, 6, True))]))
    witness = Witness(kernel)
    assert asyncio.run(witness.received(over, 5)) == (5, "closed")
    other = Connection(over.local, (HERE, 40_000))
    assert asyncio.run(witness.received(other, 0)) == (0, "unknown")
