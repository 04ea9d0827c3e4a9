"""Serve the one client on a unix socket: check who it is, answer in order, push events."""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable
from typing import Any, Final

from filters.errors import FiltersError, NetdError
from filters.netd.protocol import Event, FrameReader, Lost, NetdCode, encode_frame, event_to_wire
from filters.netd.service import Answer, Service

_READ_SIZE: Final = 65536
_UCRED: Final = struct.Struct("=iII")  # pid, uid, gid
_MAX_BACKLOG: Final = 8 * 1024 * 1024  # bytes of events a client may leave unread before they are lost
_PARTING_S: Final = 1.0
_log = logging.getLogger(__name__)


class Server:
    """Accept one client at a time, of one uid. When it goes, `Service.forget_client` cuts everything."""

    def __init__(self, client_uid: int) -> None:
        self._client_uid = client_uid
        self._service: Service | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._lost_events = 0
        self._loads: set[asyncio.Task[None]] = set()

    def serve(self, service: Service) -> None:
        """Say who answers."""
        self._service = service

    def stop(self) -> None:
        """Answer no more; the service is about to close."""
        self._service = None

    def emit(self, event: Event) -> None:
        """Push an event; without a client it is gone, with one that does not read it is counted."""
        if self._writer is None:
            return
        if self._writer.transport.get_write_buffer_size() > _MAX_BACKLOG:
            self._lost_events += 1
            return
        if self._lost_events:
            self._writer.write(encode_frame(event_to_wire(Lost("events", self._lost_events))))
            self._lost_events = 0
        self._writer.write(encode_frame(event_to_wire(event)))

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        refusal = self._refusal(writer)
        if refusal is not None:
            await self._send_away(reader, writer, refusal)
            return
        self._writer = writer
        try:
            await self._converse(reader, writer)
        except OSError as error:
            _log.warning("client lost: %s", error)
        except NetdError as error:
            _log.warning("client dismissed: %s", error.message)
        finally:
            await self._part(writer)

    async def _send_away(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refusal: NetdError
    ) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(encode_frame({"id": 0, "error": _error(refusal)}))
            writer.write_eof()
            # closing with its request unread would reset the connection before it has read why
            async with asyncio.timeout(_PARTING_S):
                while await reader.read(_READ_SIZE):
                    pass
        writer.close()

    async def _part(self, writer: asyncio.StreamWriter) -> None:
        """Cut first; a load still under way must end before another client may come."""
        service = self._service
        if service is not None:
            service.forget_client()
            if self._loads:
                await asyncio.wait(self._loads)
                service.forget_client()
        self._writer = None
        writer.close()

    def _refusal(self, writer: asyncio.StreamWriter) -> NetdError | None:
        peer: socket.socket = writer.get_extra_info("socket")
        _, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid != self._client_uid:
            return NetdError(NetdCode.FORBIDDEN.value, f"uid {uid} may not use netd", uid=uid)
        if self._writer is not None:
            return NetdError(NetdCode.BUSY.value, "netd has a client")
        return None

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader()
        while data := await reader.read(_READ_SIZE):
            for request in frames.feed(data):
                self._handle(request, writer)
            await writer.drain()

    def _handle(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        number = request.get("id")
        try:
            answer = self._ask(request)
        except FiltersError as error:
            writer.write(encode_frame({"id": number, "error": _error(error)}))
            return
        if isinstance(answer, dict):
            writer.write(encode_frame({"id": number, "ok": answer}))
            return
        # beacons go on renewing trust while a large policy loads
        task = asyncio.create_task(self._finish(number, answer, writer), name="load-policy")
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    def _ask(self, request: dict[str, Any]) -> Answer | Awaitable[Answer]:
        if self._service is None:
            raise NetdError(NetdCode.GONE.value, "netd is stopping")
        return self._service.answer(str(request.get("verb")), request.get("args"))

    async def _finish(self, number: object, answer: Awaitable[Answer], writer: asyncio.StreamWriter) -> None:
        try:
            message = {"id": number, "ok": await answer}
        except FiltersError as error:
            message = {"id": number, "error": _error(error)}
        writer.write(encode_frame(message))


def _error(error: FiltersError) -> dict[str, Any]:
    params = {
        name: value if isinstance(value, int | str) else str(value) for name, value in error.params.items()
    }
    return {"code": error.code, "message": error.message, "params": params}
