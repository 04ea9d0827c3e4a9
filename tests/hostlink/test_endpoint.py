"""Two real ends over a real socket, with real unix sockets behind them."""

import asyncio
import functools
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec

import pytest

from hostlink.endpoint import MOST_CHANNELS, Endpoint, Streams
from hostlink.errors import LinkError
from hostlink.frames import MAX_DATA, WINDOW, Frame, Kind, credit_frame

MINE = frozenset({os.getuid()})
P = ParamSpec("P")


def in_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _pair() -> tuple[Streams, Streams]:
    one, other = socket.socketpair()
    return await asyncio.open_unix_connection(sock=one), await asyncio.open_unix_connection(sock=other)


@asynccontextmanager
async def line(tmp_path: Path, mine: frozenset[int] = MINE) -> AsyncIterator[Path]:
    """A host's end that listens at the path given back, and a gateway's end with the service `echo`."""
    async with await asyncio.start_unix_server(_echo, tmp_path / "echo"):
        host_streams, gateway_streams = await _pair()
        host = Endpoint(*host_streams, 0, {})
        gateway = Endpoint(
            *gateway_streams, 1, {"echo": lambda: asyncio.open_unix_connection(tmp_path / "echo")}
        )
        tasks = [asyncio.create_task(one.run()) for one in (host, gateway)]
        tasks.append(asyncio.create_task(host.serve(tmp_path / "near", "echo", 0o600, mine)))
        while not (tmp_path / "near").exists():
            await asyncio.sleep(0.01)
        try:
            yield tmp_path / "near"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    answer = await reader.readexactly(len(data))
    writer.close()
    return answer


@in_a_loop
async def test_many_connections_at_once_get_their_own_bytes(tmp_path: Path) -> None:
    async with asyncio.timeout(20), line(tmp_path) as near:
        sent = [bytes([number]) * 300_000 for number in range(12)]
        assert await asyncio.gather(*(_ask(near, one) for one in sent)) == sent


@in_a_loop
async def test_a_connection_that_nobody_reads_does_not_hold_up_another(tmp_path: Path) -> None:
    async with asyncio.timeout(20), line(tmp_path) as near:
        _, stuck = await asyncio.open_unix_connection(near)
        stuck.write(bytes(8 << 20))
        await asyncio.sleep(0.3)
        assert await _ask(near, b"past it") == b"past it"
        stuck.transport.abort()


@in_a_loop
async def test_a_connection_ends_on_both_sides(tmp_path: Path) -> None:
    async with asyncio.timeout(20), line(tmp_path) as near:
        for _ in range(MOST_CHANNELS + 20):  # they don't add up
            assert await _ask(near, b"x") == b"x"


@in_a_loop
async def test_rejects_another_uid(tmp_path: Path) -> None:
    async with asyncio.timeout(20), line(tmp_path, frozenset({12345})) as near:
        reader, _ = await asyncio.open_unix_connection(near)
        assert await reader.read() == b""


async def _fed(frames: bytes) -> LinkError:
    """What an end says of these bytes."""
    ours, theirs = await _pair()
    endpoint = Endpoint(*ours, 0, {})
    running = asyncio.create_task(endpoint.run())
    theirs[1].write(frames)
    theirs[1].write_eof()
    async with asyncio.timeout(10):
        with pytest.raises(LinkError) as raised:
            await running
    theirs[1].close()
    return raised.value


@in_a_loop
async def test_rejects_channel_of_its_own_numbers() -> None:
    assert (await _fed(Frame(2, Kind.OPEN, b"echo").encode())).code == "bad-frame"


@in_a_loop
async def test_ends_when_the_other_side_is_gone() -> None:
    assert (await _fed(b"")).code == "line-ended"


@in_a_loop
async def test_ends_when_the_other_side_is_gone_before_it_read_all() -> None:
    one, other = socket.socketpair()
    ours = await asyncio.open_unix_connection(sock=one)
    running = asyncio.create_task(Endpoint(*ours, 0, {}).run())
    ours[1].write(b"unread")
    await asyncio.sleep(0.05)
    other.close()
    with pytest.raises(LinkError) as raised:
        await running
    assert raised.value.code == "line-ended"


@in_a_loop
async def test_leaves_bytes_of_a_closed_connection_unread() -> None:
    assert (await _fed(Frame(9, Kind.DATA, b"late").encode())).code == "line-ended"


@in_a_loop
async def test_unknown_service_is_closed_at_once() -> None:
    ours, (reader, writer) = await _pair()
    running = asyncio.create_task(Endpoint(*ours, 0, {}).run())
    writer.write(Frame(1, Kind.OPEN, b"shell").encode())
    assert await reader.readexactly(7) == Frame(1, Kind.CLOSE).encode()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    writer.close()


@in_a_loop
async def test_rejects_more_than_the_window(tmp_path: Path) -> None:
    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with await asyncio.start_unix_server(silent, tmp_path / "silent"):
        ours, (_, writer) = await _pair()
        services = {"silent": lambda: asyncio.open_unix_connection(tmp_path / "silent")}
        running = asyncio.create_task(Endpoint(*ours, 0, services).run())
        writer.write(Frame(1, Kind.OPEN, b"silent").encode())
        for _ in range(8 * WINDOW // MAX_DATA):
            writer.write(Frame(1, Kind.DATA, bytes(MAX_DATA)).encode())
        async with asyncio.timeout(10):
            with pytest.raises(LinkError) as raised:
                await running
        assert raised.value.code == "over-window"
        writer.close()


@asynccontextmanager
async def _stuck() -> AsyncIterator[tuple[Endpoint, Streams, "asyncio.Task[None]"]]:
    """An end with one channel to a service that reads nothing, as the other side sees it."""
    one, unread = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours, theirs = await _pair()
    endpoint = Endpoint(*ours, 0, {"silent": lambda: asyncio.open_unix_connection(sock=one)})
    running = asyncio.create_task(endpoint.run())
    theirs[1].write(Frame(1, Kind.OPEN, b"silent").encode())
    try:
        async with asyncio.timeout(20):
            yield endpoint, theirs, running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        theirs[1].close()
        unread.close()


@pytest.fixture
def memory() -> Iterator[Callable[[], int]]:
    """Tell how much memory was taken since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


async def _all_taken(streams: Streams) -> None:
    """Wait until an end has taken all that was written to it: it has answered what came behind."""
    reader, writer = streams
    writer.write(Frame(3, Kind.OPEN, b"shell").encode())
    await reader.readuntil(Frame(3, Kind.CLOSE).encode())


@in_a_loop
async def test_rejects_endless_closing_of_a_connection_that_cannot_end_yet(memory: Callable[[], int]) -> None:
    async with _stuck() as (_, theirs, running):
        theirs[1].write(Frame(1, Kind.DATA, bytes(MAX_DATA)).encode() * (WINDOW // MAX_DATA))
        await _all_taken(theirs)
        before = memory()
        theirs[1].write(Frame(1, Kind.CLOSE).encode() * 40_000 + Frame(1, Kind.DATA, b"x").encode() * 1000)
        await _all_taken(theirs)
        assert not running.done()
        assert memory() - before < 2 * WINDOW  # a note of 8 bytes about each would take more


@in_a_loop
async def test_small_frames_take_no_more_memory_than_large_ones(memory: Callable[[], int]) -> None:
    async with _stuck() as (_, theirs, _):
        theirs[1].write(Frame(1, Kind.DATA, bytes(MAX_DATA)).encode() * 6)
        await _all_taken(theirs)
        before, small = memory(), WINDOW - 6 * MAX_DATA
        theirs[1].write(Frame(1, Kind.DATA, b"xy").encode() * (small // 2))
        await _all_taken(theirs)
        assert memory() - before < 2 * WINDOW


@in_a_loop
async def test_rejects_credit_for_what_was_never_sent() -> None:
    async with _stuck() as (_, (_, writer), running):
        writer.write(credit_frame(1, (1 << 32) - 1).encode())
        with pytest.raises(LinkError) as raised:
            await running
        assert raised.value.code == "over-window"


@in_a_loop
async def test_what_came_before_the_end_is_delivered(tmp_path: Path) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.read())
        writer.close()

    async with await asyncio.start_unix_server(reads, tmp_path / "reads"):
        ours, (_, writer) = await _pair()
        services = {"reads": lambda: asyncio.open_unix_connection(tmp_path / "reads")}
        running = asyncio.create_task(Endpoint(*ours, 0, services).run())
        frames = Frame(1, Kind.OPEN, b"reads"), Frame(1, Kind.DATA, b"last words"), Frame(1, Kind.CLOSE)
        writer.write(b"".join(one.encode() for one in frames))
        async with asyncio.timeout(10):
            assert await got == b"last words"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        writer.close()


@in_a_loop
async def test_when_the_line_ends_so_does_each_connection_that_was_accepted(tmp_path: Path) -> None:
    ours, (their_reader, their_writer) = await _pair()
    host = Endpoint(*ours, 0, {})
    running = asyncio.create_task(host.run())
    serving = asyncio.create_task(host.serve(tmp_path / "near", "echo", 0o600, MINE))
    while not (tmp_path / "near").exists():
        await asyncio.sleep(0.01)
    reader, _ = await asyncio.open_unix_connection(tmp_path / "near")
    assert await their_reader.readexactly(11) == Frame(0, Kind.OPEN, b"echo").encode()
    their_writer.close()
    with pytest.raises(LinkError):
        await running
    late, _ = await asyncio.open_unix_connection(tmp_path / "near")
    async with asyncio.timeout(5):
        assert (await reader.read(), await late.read()) == (b"", b"")
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@in_a_loop
async def test_an_end_that_does_not_read_our_answers_is_not_read_either() -> None:
    ours, (reader, writer) = await _pair()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hostlink.endpoint.MOST_UNREAD", 100_000)
        running = asyncio.create_task(Endpoint(*ours, 0, {}).run())
        asked, answer = 200_000, Frame(1, Kind.CLOSE).encode()
        writer.write(Frame(1, Kind.OPEN, b"shell").encode() * asked)
        await asyncio.sleep(1)
        assert ours[1].transport.get_write_buffer_size() < 200_000
        async with asyncio.timeout(30):
            assert await reader.readexactly(asked * len(answer)) == answer * asked
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        writer.close()
