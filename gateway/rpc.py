"""Speak length-prefixed JSON over a unix socket: how tpmd, quotegated and the monitor talk.

A message is a 4-byte big-endian length and one JSON object. An answer has `ok`; when it is false,
`code` and `message` say why. A connection carries any number of requests, answered in order.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.errors import GatewayError

MAX_MESSAGE = 1 << 20
MAX_WAITING = 1024  # requests of one connection without an answer yet; who sends more waits
PARTING_S = 1.0
MOST_PARTING = 16  # refused connections of a server that are still told why; more of them are closed at once
Payload = dict[str, object]
Handler = Callable[[Payload, int], Awaitable[Payload]]
Admit = Callable[[int], None]  # raises GatewayError for a uid that may not connect


class RpcError(GatewayError):
    """A request was refused by the other process, or the other process is away."""


def encode(payload: Payload) -> bytes:
    """Frame one JSON object."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    return struct.pack(">I", len(body)) + body


async def read_message(reader: asyncio.StreamReader) -> Payload:
    """Read one framed JSON object; raises RpcError when it is too long or no object."""
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    if length > MAX_MESSAGE:
        raise RpcError(
            "message-too-long", f"a message of {length} bytes came, at most {MAX_MESSAGE} are taken"
        )
    try:
        payload = json.loads(await reader.readexactly(length))
    except (ValueError, RecursionError) as error:
        raise RpcError("malformed-message", f"a message is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise RpcError("malformed-message", "a message is not a JSON object")
    return payload


def peer_uid(transport: asyncio.StreamWriter | asyncio.BaseTransport) -> int:
    """Return the uid at the other end of a unix socket (SO_PEERCRED, unix(7))."""
    return _credentials(transport)[1]


def peer_pid(writer: asyncio.StreamWriter) -> int:
    """Return the pid of whoever connected to a unix socket."""
    return _credentials(writer)[0]


def _credentials(transport: asyncio.StreamWriter | asyncio.BaseTransport) -> tuple[int, int, int]:
    """Return pid, uid and gid (SO_PEERCRED, unix(7))."""
    sock: socket.socket = transport.get_extra_info("socket")
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid, gid


class RpcClient:
    """One connection to another process. Many calls may wait at once; answers come in the order of the requests.

    A call that is cancelled keeps its place: the answer that comes for it is dropped, and no other call gets it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._waiting: deque[tuple[float, asyncio.Future[Payload]]] = deque()
        self._broken = False
        self._taking = asyncio.create_task(self._take_answers())

    @classmethod
    async def connect(cls, path: Path) -> "RpcClient":
        """Connect; raises RpcError `away` when nobody listens at `path`."""
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise RpcError("away", f"nobody answers at {path.name}: {error.strerror}") from error
        return cls(reader, writer)

    @property
    def waits(self) -> float:
        """For how many seconds the oldest request has had no answer; 0.0 when all are answered."""
        return asyncio.get_running_loop().time() - self._waiting[0][0] if self._waiting else 0.0

    async def call(self, op: str, **params: object) -> Payload:
        """Send one request and return its answer; raises RpcError with the answer's code."""
        if self._broken:
            raise RpcError("away", f"the connection broke before {op}")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Payload] = loop.create_future()
        self._waiting.append((loop.time(), future))
        self._writer.write(encode({"op": op, **params}))
        try:
            await self._writer.drain()
            answer = await future
        except OSError as error:
            raise RpcError("away", f"the connection broke during {op}") from error
        if not answer.get("ok"):
            raise RpcError(str(answer.get("code")), str(answer.get("message")), op=op)
        return answer

    async def _take_answers(self) -> None:
        try:
            while True:
                answer = await read_message(self._reader)
                if not self._waiting:
                    raise RpcError("malformed-message", "an answer to no request")
                _, future = self._waiting.popleft()
                if not future.done():
                    future.set_result(answer)
        except (OSError, asyncio.IncompleteReadError, RpcError):
            pass
        finally:
            self._broken = True
            self._writer.close()
            for _, future in self._waiting:
                if not future.done():
                    future.set_exception(ConnectionResetError("the other process hung up"))

    def close(self) -> None:
        """Close the connection; calls that wait fail with `away`."""
        self._taking.cancel()
        self._writer.close()


def _anybody(_uid: int) -> None:
    pass


class _Threshold:
    """Keeps out who may not connect: a few of them are told why, none is listened to."""

    def __init__(self, admit: Admit) -> None:
        self._admit, self._parting = admit, 0

    async def lets_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Tell whether the caller may stay; else the connection is closed."""
        try:
            self._admit(peer_uid(writer))
        except GatewayError as error:
            await self._part(reader, writer, error)
            return False
        return True

    async def _part(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: GatewayError
    ) -> None:
        try:
            if self._parting < MOST_PARTING:
                self._parting += 1
                try:
                    await self._tell(reader, writer, error)
                finally:
                    self._parting -= 1
        finally:
            writer.transport.abort()

    async def _tell(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: GatewayError
    ) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(PARTING_S):
                await reader.read(4)  # an answer to no request would be an error
                writer.write(encode({"ok": False, "code": error.code, "message": error.message}))
                writer.write_eof()
                # closing with its request unread would reset the connection before it has read why
                while await reader.read(1 << 16):
                    pass


async def serve(path: Path, handler: Handler, mode: int = 0o666, admit: Admit = _anybody) -> asyncio.Server:
    """Listen on a unix socket and answer requests with `handler(payload, uid)`, at once but in their order.

    Who may connect is decided by `admit(uid)`, what they may do by the handler: by the uid that the kernel vouches for.
    """
    threshold = _Threshold(admit)

    async def answer(request: Payload, uid: int) -> bytes:
        try:
            return encode({"ok": True, **await handler(request, uid)})
        except GatewayError as error:
            return encode({"ok": False, "code": error.code, "message": error.message})

    async def send(answers: asyncio.Queue[asyncio.Task[bytes]], writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await (await answers.get()))
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await threshold.lets_in(reader, writer):
            return
        uid = peer_uid(writer)
        answers: asyncio.Queue[asyncio.Task[bytes]] = asyncio.Queue(MAX_WAITING)
        sending = asyncio.create_task(send(answers, writer))
        try:
            while True:
                request = await read_message(reader)
                await answers.put(asyncio.create_task(answer(request, uid)))
        except (asyncio.IncompleteReadError, RpcError, ConnectionError):
            pass
        finally:
            sending.cancel()
            writer.close()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(answer_all, path)
    path.chmod(mode)
    return server
