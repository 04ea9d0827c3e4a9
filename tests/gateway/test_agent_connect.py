"""`quotegate-agent connect`: what it does when the connection ends in some other way than it should."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.agent import connect
from gateway.agent.main import EXIT_ERROR, main

Server = Callable[[socket.socket], object]


def reset(sock: socket.socket) -> None:
    time.sleep(0.1)  # the connection stands by then
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def carried(source: int, served: Server) -> tuple[int, bool]:
    """Carry to a server that does this with its end of the connection."""

    async def story(port: int) -> tuple[int, bool]:
        sock = await connect._open("127.0.0.1", port)
        try:
            async with asyncio.timeout(10):
                return await connect._carry(sock, source)
        finally:
            sock.close()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            served(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as thread:
        thread.submit(serve)
        return asyncio.run(story(listening.getsockname()[1]))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    yield ours, theirs
    for one in (ours, theirs):
        os.close(one)


def test_a_connection_that_was_cut_ends_it_while_the_input_is_silent(pipe: tuple[int, int]) -> None:
    assert carried(pipe[0], reset) == (0, False)


def test_what_was_sent_before_a_cut_is_counted(
    pipe: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(5, socket.MSG_WAITALL)
        reset(sock)

    os.write(pipe[1], b"hello")
    assert carried(pipe[0], serve) == (5, False)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_a_file_is_carried_whole_and_its_answer_comes_back(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], size: int
) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    with (tmp_path / "file").open("rb") as source:
        assert carried(source.fileno(), echo) == (size, True)
    assert len(capfdbinary.readouterr().out) == size


def test_input_that_ends_later_is_carried_too(
    pipe: tuple[int, int], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    ours, theirs = socket.socketpair()
    with ours, ThreadPoolExecutor(1) as thread, theirs:
        thread.submit(lambda: [theirs.sendall(b"x" * 70_000), theirs.shutdown(socket.SHUT_WR)])
        assert carried(ours.fileno(), echo) == (70_000, True)
    assert capfdbinary.readouterr().out == b"x" * 70_000


@pytest.mark.parametrize("words", [("status",), ("open", "db", "tcp/1"), ("connect", "db", "tcp/1")])
def test_rejects_an_agent_that_hangs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    monkeypatch.setattr(connect, "AGENT_WITHIN_S", 0.2)
    path = tmp_path / "agent.sock"
    monkeypatch.setattr("sys.argv", ["quotegate-agent", "--socket", str(path), *words])
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(path))
        stopped.listen()
        with pytest.raises(SystemExit) as raised:
            main()
    assert raised.value.code == EXIT_ERROR
    assert "no-answer: the agent took the question and did not answer within" in capsys.readouterr().err
