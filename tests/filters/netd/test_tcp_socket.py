"""When two connections may become one, and what a hushed or silenced socket does (loopback, CAP_NET_ADMIN)."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from filters.netd.tcp_socket import (
    Connection,
    hush,
    read_connection,
    read_place,
    silence,
    unhush,
    wake,
    why_apart,
)

NEAR = Connection(state=1, options=6, window_shifts=(7, 10), segment=(1460, 1460), waiting=0)
FAR = replace(NEAR, window_shifts=(10, 7))
root = pytest.mark.skipif(os.geteuid() != 0, reason="TCP_REPAIR needs CAP_NET_ADMIN")


def test_two_that_agreed_on_the_same_may_be_one() -> None:
    assert why_apart(NEAR, FAR) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": 8}, "ended"),
        ({"waiting": 1}, "under way"),
        ({"options": 7}, "timestamps"),
        ({"options": 4}, "other options"),
        ({"window_shifts": (10, 8)}, "windows"),
        ({"segment": (1400, 1460)}, "smaller"),
    ],
)
def test_rejects_a_leg_that_agreed_on_something_else(change: dict[str, int], words: str) -> None:
    for near, far in ((NEAR, replace(FAR, **change)), (replace(NEAR, **change), FAR)):
        why = why_apart(near, far)
        assert why is not None
        assert words in why


def test_bytes_under_way_do_not_matter_before_the_end() -> None:
    assert why_apart(NEAR, replace(FAR, waiting=5), under_way=True) is None


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname(), 5)
        other, _ = server.accept()
    for end in (one, other):
        end.settimeout(2)
    yield one, other
    one.close()
    other.close()


@root
def test_a_hushed_socket_takes_no_bytes_and_hears_what_is_acknowledged(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    one, other = pair
    hush(other)
    one.sendall(b"later")
    other.sendall(b"now")
    assert one.recv(10) == b"now"
    other.settimeout(0.1)
    with pytest.raises(TimeoutError):
        other.recv(10)
    assert read_connection(other).waiting == 0
    unhush(other)
    other.settimeout(5)
    assert other.recv(10) == b"later"


@root
def test_a_silenced_socket_closes_without_a_word(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    silence(other)
    other.close()
    one.settimeout(0.2)
    with pytest.raises(TimeoutError):
        one.recv(1)


@root
def test_a_silenced_socket_that_is_woken_goes_on(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    before = read_connection(other)
    silence(other)
    place = read_place(other)
    wake(other)
    assert read_connection(other).state == before.state == 1
    one.sendall(b"abc")
    assert other.recv(10) == b"abc"
    silence(other)
    assert read_place(other).received == (place.received + 3) % (1 << 32)
