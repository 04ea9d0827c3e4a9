"""A guest's line as the host hears it: in order, slowly, and again after a restart. The machine is a stand-in, its line a real socket."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostlink.errors import LinkError
from hostlink.reports import MAX_LINE, GatewayFailed, Report, Up
from tests.vmhost.vm.specs import small
from vmhost.errors import HostError
from vmhost.vm.guest_line import ReportingGuest, listen

Said = Report | LinkError


def heard_of(*pieces: bytes) -> tuple[list[Said], int]:
    """Listen to what comes in these pieces; return what was told, and how often the listener paused."""

    async def story() -> tuple[list[Said], int]:
        reader, said, pauses = asyncio.StreamReader(limit=MAX_LINE), list[Said](), 0

        async def hear(one: Said) -> None:
            said.append(one)

        async def pause() -> None:
            nonlocal pauses
            pauses += 1

        for one in pieces:
            reader.feed_data(one)
        reader.feed_eof()
        await listen(reader, hear, pause)
        return said, pauses

    return asyncio.run(story())


def test_tells_all_that_is_said_in_order() -> None:
    said, _ = heard_of(b"u", b"p\ngateway-", b"failed pcr-mismatch\nnoise\nup\n")
    assert [type(one) for one in said] == [Up, GatewayFailed, LinkError, Up]


def test_pauses_after_each_line_and_after_each_piece_of_one() -> None:
    said, pauses = heard_of(b"x" * 10 * MAX_LINE)
    assert (len(said), pauses) == (1, 11)
    said, pauses = heard_of(b"\n" * 10 * MAX_LINE)
    assert pauses == len(said) + 10


class Machine:
    """Stands for a domain: its line is open while it runs, and says the same at each start."""

    def __init__(self, root: Path, says: bytes) -> None:
        self.spec, self._says = small(run_dir=root, host_link=True), says
        self.refuses = False

    async def start(self) -> None:
        if self.refuses:
            raise HostError("vm-died", "no")
        self._server = await asyncio.start_unix_server(self._speak, self.spec.link_socket)

    async def stop(self) -> None:
        self._server.close()

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._says)
        assert await reader.read() == b""  # nothing is sent to a guest
        writer.close()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    one = asyncio.new_event_loop()
    thread = threading.Thread(target=one.run_forever)
    thread.start()
    yield one
    one.call_soon_threadsafe(one.stop)
    thread.join()
    one.close()


class Listener:
    """Keeps what was heard; waits for it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Said]] = []
        self._more = threading.Semaphore(0)

    async def heard(self, name: str, said: Said) -> None:
        self.said.append((name, said))
        self._more.release()

    def wait(self) -> None:
        assert self._more.acquire(timeout=10)


def guest_of(machine: Machine, loop: asyncio.AbstractEventLoop) -> ReportingGuest:
    domain: Any = machine
    nothing: Any = None
    return ReportingGuest(domain, nothing, bytes, loop)


def test_a_guest_is_heard_at_each_start(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    guest, listener = guest_of(Machine(tmp_path, b"up\n"), loop), Listener()
    guest.heard = listener.heard
    for _ in range(3):
        guest.boot()
        listener.wait()
        guest.power_off()
    assert listener.said == [("guest-a", Up())] * 3


def test_a_guest_nobody_listens_to_starts_as_well(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    guest = guest_of(Machine(tmp_path, b"up\n"), loop)
    guest.boot()
    guest.power_off()


def test_a_guest_that_does_not_start_leaves_no_listener(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    machine = Machine(tmp_path, b"")
    machine.refuses = True
    guest = guest_of(machine, loop)
    guest.heard = Listener().heard
    with pytest.raises(HostError):
        guest.boot()
    assert guest._line is None


def test_a_line_that_nobody_reads_any_more_is_told(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(_name: str, _said: Said) -> None:
        raise RuntimeError("a mistake of ours")

    guest = guest_of(Machine(tmp_path, b"up\n"), loop)
    guest.heard = broken
    guest.boot()
    line = guest._line
    assert line is not None
    asyncio.run_coroutine_threadsafe(asyncio.wait({line}, timeout=10), loop).result()
    guest.power_off()
    assert (
        "VM guest-a: its line is not read any more: RuntimeError('a mistake of ours')"
        in capsys.readouterr().out
    )


def test_a_line_that_is_gone_already_is_no_failure_of_the_start(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    machine = Machine(tmp_path / "gone", b"")

    async def start() -> None:
        pass

    async def stop() -> None:
        pass

    machine.start, machine.stop = start, stop  # type: ignore[method-assign]
    guest = guest_of(machine, loop)
    guest.heard = Listener().heard
    guest.boot()
    guest.power_off()
