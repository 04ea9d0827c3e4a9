"""Sockets that netd gives: what legs need is set on them, and servers' answers are what connecting says."""

import asyncio
import socket
import struct

import pytest

from filters.inspection.worker.leg import RESETS
from filters.inspection.worker.sockets import _connect, _prepare


def connecting(*, listens: bool, backlog: int = 8) -> socket.socket:
    """Connect to a server on loopback; one that has no room answers nobody."""

    async def inside() -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
            address = server.getsockname()
            others = []
            if not listens:
                server.close()
            for _ in range(0 if backlog else 2):
                others.append(socket.socket())
                others[-1].setblocking(False)
                others[-1].connect_ex(address)
            try:
                async with asyncio.timeout(0.3):
                    await _connect(made, address)
                made.send(b"there")
                return made
            except BaseException:
                made.close()
                raise
            finally:
                for one in others:
                    one.close()

    return asyncio.run(inside())


def test_a_server_that_answers_is_connected() -> None:
    connecting(listens=True).close()


@pytest.mark.parametrize(
    ("listens", "backlog", "error"), [(False, 8, ConnectionRefusedError), (True, 0, TimeoutError)]
)
def test_a_server_that_refuses_or_is_silent_is_an_error(
    listens: bool, backlog: int, error: type[OSError]
) -> None:
    with pytest.raises(error):
        connecting(listens=listens, backlog=backlog)


def test_near_legs_have_what_was_set_on_their_listener() -> None:
    """An inspector that is killed must not end them in order."""
    with _prepare(socket.create_server(("127.0.0.1", 0))) as listener:
        client = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
        linger = near.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.calcsize("ii"))
        assert linger == RESETS
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        ):
            assert near.getsockopt(level, option) == value
        near.close()
        with client, pytest.raises(ConnectionResetError):
            client.recv(1)
