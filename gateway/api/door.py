"""Let callers in to the HTTP server: who has too many connections already is told so and let go."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

from aiohttp import web

from gateway.api.places import Busy, Places
from gateway.rpc import peer_uid

PARTING_S = 1.0
MOST_PARTING = 16  # refused connections that are still told why; more of them are closed at once
_log = logging.getLogger(__name__)


class Door(web.BaseSite):
    """The listening socket of a runner."""

    def __init__(self, runner: web.AppRunner, path: Path, places: Places) -> None:
        super().__init__(runner)
        self._path, self.places, self.parting = path, places, 0

    @property
    def name(self) -> str:
        """Name it, for aiohttp."""
        return f"http://unix:{self._path}:"

    async def start(self) -> None:
        """Listen."""
        await super().start()
        self._server = await asyncio.get_running_loop().create_unix_server(self._caller, self._path)

    def _caller(self) -> "Caller":
        return Caller(self, cast(Callable[[], asyncio.Protocol], self._runner.server))


class Caller(asyncio.Protocol):
    """One connection: counted while it lasts, served by what `serve` makes."""

    def __init__(self, door: Door, serve: Callable[[], asyncio.Protocol]) -> None:
        self._door, self._serve = door, serve
        self._uid = -1
        self._server: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check who calls and how often."""
        self._uid = peer_uid(transport)
        try:
            self._door.places.take(self._uid)
        except Busy as error:
            self._refuse(cast(asyncio.Transport, transport), error)
            return
        self._server = self._serve()
        self._server.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the place."""
        if self._server is not None:
            self._door.places.leave(self._uid)
            self._server.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand on; what comes from who was refused is not looked at."""
        if self._server is not None:
            self._server.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand on."""
        return None if self._server is None else self._server.eof_received()

    def pause_writing(self) -> None:
        """Hand on."""
        if self._server is not None:
            self._server.pause_writing()

    def resume_writing(self) -> None:
        """Hand on."""
        if self._server is not None:
            self._server.resume_writing()

    def _refuse(self, transport: asyncio.Transport, error: Busy) -> None:
        """Say why not; descriptors that a refused caller holds are ours."""
        if self._door.parting >= MOST_PARTING:
            transport.abort()
            return
        _log.warning("control API: refused: %s", error.message)
        self._door.parting += 1
        body = json.dumps({"error": {"code": error.code, "message": error.message}}).encode()
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        # closing with its request unread would reset the connection before it has read why
        asyncio.get_running_loop().call_later(PARTING_S, self._part, transport)

    def _part(self, transport: asyncio.Transport) -> None:
        self._door.parting -= 1
        transport.abort()
