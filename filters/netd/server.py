"""Serve the one client on a unix socket: check who it is, answer in order, push events."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from filters.errors import FiltersError, NetdError
from filters.netd.caller import caller_uid
from filters.netd.protocol import Event, FrameReader, Lost, NetdCode, encode_frame, event_to_wire
from filters.netd.service import Answer, Service

_MAX_BACKLOG: Final = 8 * 1024 * 1024  # bytes of events a client may leave unread before they are lost
_PARTING_S: Final = 1.0
_MOST_PARTING: Final = 16  # refused connections that are still told why; more of them are closed at once
_log = logging.getLogger(__name__)


class Server:
    """Accept one client at a time, of one uid. When it goes, `Service.forget_client` cuts everything."""

    def __init__(self, client_uid: int, give_up: Callable[[], None]) -> None:
        """give_up: ends netd, where it can't cut what a client had; who starts it again starts it closed."""
        self._give_up = give_up
        self.service: Service | None = None
        self._client_uid = client_uid
        self._client: Connection | None = None
        self._lost_events = 0
        self.parting = 0

    def stop(self) -> None:
        """Answer no more; the service is about to close."""
        self.service = None

    def connection(self) -> "Connection":
        """Make the protocol object of a new connection."""
        return Connection(self)

    def emit(self, event: Event) -> None:
        """Push an event; without a client it is gone, with one that does not read it is counted."""
        if self._client is None:
            return
        if self._client.backlog() > _MAX_BACKLOG:
            self._lost_events += 1
            return
        if self._lost_events:
            self._client.send(event_to_wire(Lost("events", self._lost_events)))
            self._lost_events = 0
        self._client.send(event_to_wire(event))

    def admit(self, connection: "Connection", uid: int) -> None:
        """Make a connection the client; raises NetdError `forbidden` or `busy`."""
        if uid != self._client_uid:
            raise NetdError(NetdCode.FORBIDDEN.value, f"uid {uid} may not use netd", uid=uid)
        if self._client is not None:
            raise NetdError(NetdCode.BUSY.value, "netd has a client")
        self._client = connection

    def part(self, connection: "Connection") -> None:
        """Cut everything the client had; nobody else may come before that."""
        if connection is not self._client:
            return
        if self.forget():
            self._client = None

    def forget(self) -> bool:
        """Cut what the client had; returns False when that failed: then nobody is served any more."""
        try:
            if self.service is not None:
                self.service.forget_client()
        except (NetdError, OSError) as error:
            _log.error("can't cut what the client had, so netd ends: %s", error)
            self._give_up()
            return False
        return True


class Connection(asyncio.Protocol):
    """One connection. Short requests are answered where they are read, long ones by tasks."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._frames = FrameReader()
        self._long: set[asyncio.Task[None]] = set()
        self._refused = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check who calls."""
        self._transport = cast(asyncio.Transport, transport)
        peer: socket.socket = transport.get_extra_info("socket")
        try:
            self._server.admit(self, caller_uid(peer))
        except NetdError as error:
            self._refuse(error)

    def data_received(self, data: bytes) -> None:
        """Answer what has come; garbage ends the connection, and with it all trust."""
        if self._refused:
            return
        try:
            for request in self._frames.feed(data):
                self._handle(request)
        except NetdError as error:
            _log.warning("client dismissed: %s", error.message)
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """Cut first; a long request still under way must end before another client may come."""
        if not self._long:
            self._server.part(self)
            return
        self._server.forget()
        for task in self._long:
            task.add_done_callback(lambda _: None if self._long else self._server.part(self))

    def send(self, message: dict[str, Any]) -> None:
        """Send one frame."""
        if not self._transport.is_closing():
            self._transport.write(encode_frame(message))

    def backlog(self) -> int:
        """Return how many bytes the client has not read."""
        return self._transport.get_write_buffer_size()

    def _refuse(self, error: NetdError) -> None:
        """Say why not. Who is refused may come as often as it likes: descriptors it holds are netd's."""
        self._refused = True
        if self._server.parting >= _MOST_PARTING:
            self._transport.abort()
            return
        _log.warning("refused: %s", error.message)
        self._server.parting += 1
        self.send({"id": 0, "error": _describe(error)})
        self._transport.write_eof()
        # closing with its request unread would reset the connection before it has read why
        asyncio.get_running_loop().call_later(_PARTING_S, self._part)

    def _part(self) -> None:
        self._server.parting -= 1
        self._transport.close()

    def _handle(self, request: dict[str, Any]) -> None:
        number = request.get("id")
        try:
            answer = self._ask(request)
        except FiltersError as error:
            self.send({"id": number, "error": _describe(error)})
            return
        if isinstance(answer, dict):
            self.send({"id": number, "ok": answer})
            return
        # beacons go on renewing trust while a large policy loads
        task = asyncio.ensure_future(self._finish(number, answer))
        self._long.add(task)
        task.add_done_callback(self._ended)

    def _ask(self, request: dict[str, Any]) -> Answer | Awaitable[Answer]:
        if self._server.service is None:
            raise NetdError(NetdCode.GONE.value, "netd is stopping")
        return self._server.service.answer(str(request.get("verb")), request.get("args"))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A request that broke in an unforeseen way ends the connection, and with it all trust."""
        self._long.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a request broke: %r", error)
            self._transport.abort()

    async def _finish(self, number: object, answer: Awaitable[Answer]) -> None:
        try:
            self.send({"id": number, "ok": await answer})
        except FiltersError as error:
            self.send({"id": number, "error": _describe(error)})


def _describe(error: FiltersError) -> dict[str, Any]:
    params = {
        name: value if isinstance(value, int | str) else str(value) for name, value in error.params.items()
    }
    return {"code": error.code, "message": error.message, "params": params}
