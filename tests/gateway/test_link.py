"""The end of a link: what was written last arrives where somebody reads, and nobody holds it open by not reading."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from authn import messages
from authn.fields import FrameReader
from authn.profile import Profile
from gateway.control import link as link_module
from gateway.control.link import MAX_UNSENT, PeerLink

MESSAGE = messages.SessionResult(1, False, "", "no-rule", "x" * 1000, 0, "")
Story = Callable[[PeerLink, asyncio.StreamReader], Awaitable[None]]


class Unsealed:
    """Stands for the session's keys."""

    def seal(self, plain: bytes) -> bytes:
        return plain


def connected(monkeypatch: pytest.MonkeyPatch, story: Story) -> None:
    """Run a story between a link and a peer's stream; then the descriptor must be gone."""
    monkeypatch.setattr(link_module, "PARTING_S", 1.0)

    async def go() -> None:
        links: asyncio.Queue[PeerLink] = asyncio.Queue()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            session: Any = SimpleNamespace(send=Unsealed())
            links.put_nowait(
                PeerLink(session, reader, writer, FrameReader(), Mock(), Profile.of("p", {4: "x"}))
            )

        server = await asyncio.start_server(accepted, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 10)
        async with asyncio.timeout(10):
            await story(await links.get(), reader)
        writer.close()
        server.close()

    asyncio.run(go())


def descriptor(link: PeerLink) -> int:
    number: int = link._writer.get_extra_info("socket").fileno()
    return number


def test_a_peer_that_reads_nothing_holds_no_link_that_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waited for what was unsent to be taken: a zero window kept descriptor, task and buffer for good."""

    async def story(link: PeerLink, _: asyncio.StreamReader) -> None:
        waiting = asyncio.create_task(link.receive())
        for _ in range(200_000):
            link.send(MESSAGE)
            if link.closed:
                break
        assert link._writer.transport.get_write_buffer_size() > MAX_UNSENT
        async with asyncio.timeout(0.8):
            assert await waiting is None
        await asyncio.sleep(1.5)
        assert descriptor(link) == -1

    connected(monkeypatch, story)


def test_what_was_unsent_reaches_a_peer_that_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(link: PeerLink, reader: asyncio.StreamReader) -> None:
        sent = 0
        while not link._writer.transport.get_write_buffer_size():
            link.send(MESSAGE)
            sent += 1
        link.close()
        link.close()
        frames = FrameReader()
        found = []
        while data := await reader.read(1 << 16):
            found += frames.feed(data)
        assert len(found) == sent
        await asyncio.sleep(0.1)
        assert descriptor(link) == -1

    connected(monkeypatch, story)


def test_a_link_with_nothing_unsent_closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(link: PeerLink, reader: asyncio.StreamReader) -> None:
        waiting = asyncio.create_task(link.receive())
        await asyncio.sleep(0)
        link.send(MESSAGE)
        link.close()
        async with asyncio.timeout(0.8):
            assert len(await reader.read()) > 1000
            assert await waiting is None
            assert await link.receive() is None
        assert descriptor(link) == -1

    connected(monkeypatch, story)
