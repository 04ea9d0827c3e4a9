"""What connecting to a server says: its answer, its refusal, or nothing in time."""

import asyncio
import socket

import pytest

from filters.inspection.worker.sockets import _connect


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
