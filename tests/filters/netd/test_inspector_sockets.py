"""Who gets inspectors' sockets of netd, and under which number."""

import asyncio
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from filters.netd import inspector_sockets
from filters.netd.inspector_sockets import MOST_CONNECTIONS, InspectorSockets, make_transparent
from filters.netd.service import Service
from filters.netd.tcp_socket import RESETS
from filters.ruleset.names import MOST_INSPECTORS


@dataclass
class Desk:
    """Stands for the desk of packets and for the kernel: which numbers were admitted, which ports are listened at."""

    admitted: list[int] = field(default_factory=list)
    listening: list[int] = field(default_factory=list)

    def admit(self, number: int) -> list[socket.socket]:
        self.admitted.append(number)
        return [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]

    def listen(self, number: int) -> socket.socket:
        self.listening.append(number)
        return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    one = Desk()
    monkeypatch.setattr(inspector_sockets, "make_listener", one.listen)
    return one


def asked(desk: Desk, path: Path, said: bytes, uid: int) -> int:
    """Connect and say something; return how many sockets come before netd hangs up or waits for more."""

    async def story() -> int:
        serving = asyncio.create_task(InspectorSockets(path, uid, desk.admit).serve())
        while not path.exists():
            await asyncio.sleep(0.01)
        try:
            return await asyncio.to_thread(ask)
        finally:
            serving.cancel()

    def ask() -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(5)
            client.connect(str(path))
            try:
                client.send(said)
                _, descriptors, _, _ = socket.recv_fds(client, 1, 8)
            except (BrokenPipeError, ConnectionResetError):  # it hung up before it read what we say
                return 0
            for one in descriptors:
                os.close(one)
            return len(descriptors)

    return asyncio.run(asyncio.wait_for(story(), 10))


@pytest.mark.parametrize("number", [0, MOST_INSPECTORS - 1])
def test_an_inspector_gets_a_listener_and_its_ends_for_packets_and_what_it_gives_back(
    desk: Desk, tmp_path: Path, number: int
) -> None:
    assert asked(desk, tmp_path / "netd", bytes([number]), os.geteuid()) == 3
    assert (desk.admitted, desk.listening) == ([number], [number])


@pytest.mark.parametrize("said", [bytes([MOST_INSPECTORS]), bytes([MOST_INSPECTORS + 1]), b"\xff"])
def test_refuses_an_inspector_number_that_is_out_of_range(
    desk: Desk, tmp_path: Path, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its port would be nobody's, or another program's; no packet must be handed to it."""
    assert asked(desk, tmp_path / "netd", said, os.geteuid()) == 0
    assert (desk.admitted, desk.listening) == ([], [])
    assert "no number below" in caplog.text


def test_refuses_another_uid(desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert asked(desk, tmp_path / "netd", b"\0", os.geteuid() + 1) == 0
    assert (desk.admitted, desk.listening) == ([], [])
    assert "may not have inspectors' sockets" in caplog.text


def test_goes_on_when_nobody_can_be_accepted(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No descriptors are left, for example; netd must not end for that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.setblocking(False)  # bound to nothing: accept fails (EINVAL)
        asyncio.run(InspectorSockets(tmp_path / "netd", os.geteuid(), desk.admit)._accept(server))
    assert "no inspector can come now" in caplog.text


def test_refuses_more_connections_than_inspectors_need(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "netd"

    async def story() -> bytes:
        serving = asyncio.create_task(InspectorSockets(path, os.geteuid(), desk.admit).serve())
        while not path.exists():
            await asyncio.sleep(0.01)
        clients = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(MOST_CONNECTIONS + 1)]
        try:
            for one in clients:
                one.setblocking(False)
                await asyncio.get_running_loop().sock_connect(one, str(path))
                await asyncio.sleep(0.01)
            return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(clients[-1], 1), 5)
        finally:
            for one in clients:
                one.close()
            serving.cancel()

    assert asyncio.run(story()) == b""
    assert "as many connections as may be" in caplog.text


@pytest.mark.parametrize("kept", ["_packets", "_handover"])
def test_refuses_more_ends_than_inspectors_need(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: str
) -> None:
    """Who was given ends may keep them when it hangs up: they are descriptors of netd's."""
    service = Service.__new__(Service)
    service._packets, service._handover = [], []  # type: ignore[assignment]
    setattr(service, kept, [object()] * MOST_CONNECTIONS)
    desk.admit = service.admit  # type: ignore[method-assign]
    assert asked(desk, tmp_path / "netd", b"\0", os.geteuid()) == 0
    assert desk.listening == []
    assert "as many ends as may be" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only CAP_NET_ADMIN makes transparent sockets")
def test_near_legs_have_what_legs_need_from_the_first_connection_on() -> None:
    """One may come before the inspector has its listener, and an inspector that is killed must not end it in order."""
    with make_transparent() as listener, socket.socket() as client:
        listener.setblocking(True)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        near, _ = listener.accept()
        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == RESETS
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        ):
            assert near.getsockopt(level, option) == value
        near.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
