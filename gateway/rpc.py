"""Speak length-prefixed JSON over a unix socket: how tpmd, quotegated and the monitor talk.

A message is a 4-byte big-endian length and one JSON object. An answer has `ok`; when it is false,
`code` and `message` say why. A connection carries any number of requests, answered in order.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.errors import GatewayError

MAX_MESSAGE = 1 << 20
Payload = dict[str, object]
Handler = Callable[[Payload, int], Awaitable[Payload]]


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
    except ValueError as error:
        raise RpcError("malformed-message", f"a message is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise RpcError("malformed-message", "a message is not a JSON object")
    return payload


def peer_uid(writer: asyncio.StreamWriter) -> int:
    """Return the uid at the other end of a unix socket (SO_PEERCRED, unix(7))."""
    sock: socket.socket = writer.get_extra_info("socket")
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


class RpcClient:
    """One connection to another process; requests are answered one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._lock = asyncio.Lock()

    @classmethod
    async def connect(cls, path: Path) -> "RpcClient":
        """Connect; raises RpcError `away` when nobody listens at `path`."""
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise RpcError("away", f"nobody answers at {path.name}: {error.strerror}") from error
        return cls(reader, writer)

    async def call(self, op: str, **params: object) -> Payload:
        """Send one request and return its answer; raises RpcError with the answer's code."""
        async with self._lock:
            try:
                self._writer.write(encode({"op": op, **params}))
                await self._writer.drain()
                answer = await read_message(self._reader)
            except (OSError, asyncio.IncompleteReadError) as error:
                raise RpcError("away", f"the connection broke during {op}") from error
        if not answer.get("ok"):
            raise RpcError(str(answer.get("code")), str(answer.get("message")), op=op)
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


async def serve(path: Path, handler: Handler, mode: int = 0o666) -> asyncio.Server:
    """Listen on a unix socket and answer requests with `handler(payload, uid)`.

    Everybody may connect; the handler decides by the uid that the kernel vouches for.
    """

    async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = peer_uid(writer)
        try:
            while True:
                request = await read_message(reader)
                try:
                    answer = {"ok": True, **await handler(request, uid)}
                except GatewayError as error:
                    answer = {"ok": False, "code": error.code, "message": error.message}
                writer.write(encode(answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, RpcError, ConnectionError):
            pass
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(answer_all, path)
    path.chmod(mode)
    return server
