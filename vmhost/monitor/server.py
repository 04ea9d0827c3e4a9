"""The monitor's socket: 4-byte big-endian length and a JSON object `{"op": …}`, answered the same way.

Answers have `ok`; a refusal has `code` and `message`. Callers are told apart by SO_PEERCRED:
restart_peer, stop_peer: the gateway (uid 64103) and root; report_gateway_refused: agents (uid 64200) and
root; restart_gateway, pause, shutdown: root; status: everybody.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from vmhost.errors import HostError
from vmhost.monitor.monitor import Monitor
from vmhost.names import AGENT_UID, GATEWAY_UID

MAX_MESSAGE = 1 << 20
Payload = dict[str, Any]


class MonitorServer:
    """Answer requests to one monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self.shutdown = asyncio.Event()
        self._verbs: dict[str, tuple[frozenset[int] | None, Callable[[Payload], Awaitable[Payload]]]] = {
            "restart_peer": (frozenset({0, GATEWAY_UID}), self._restart_peer),
            "stop_peer": (frozenset({0, GATEWAY_UID}), self._stop_peer),
            "report_gateway_refused": (frozenset({0, AGENT_UID}), self._report),
            "restart_gateway": (frozenset({0}), self._restart_gateway),
            "pause": (frozenset({0}), self._pause),
            "shutdown": (frozenset({0}), self._shutdown),
            "status": (None, self._status),
        }

    async def serve(self, path: Path) -> None:
        """Serve until cancelled."""
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, path)
        path.chmod(0o666)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock: socket.socket = writer.get_extra_info("socket")
        uid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        try:
            while True:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                if length > MAX_MESSAGE:
                    break
                answer = json.dumps(await self._answer(await reader.readexactly(length), uid)).encode()
                writer.write(struct.pack(">I", len(answer)) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, untrusted: bytes, uid: int) -> Payload:
        try:
            request = json.loads(untrusted)
            allowed, verb = self._verbs[request["op"]]
            if allowed is not None and uid not in allowed:
                raise HostError("not-permitted", f"uid {uid} may not ask for {request['op']}")
            return {"ok": True, **await verb(request)}
        except HostError as error:
            return {"ok": False, "code": error.code, "message": error.message}
        except (ValueError, KeyError, TypeError) as error:
            return {
                "ok": False,
                "code": "malformed-request",
                "message": f"not a request the monitor knows: {error!r}",
            }

    async def _restart_peer(self, request: Payload) -> Payload:
        await self._monitor.restart_peer(str(request["peer"]))
        return {}

    async def _stop_peer(self, request: Payload) -> Payload:
        await self._monitor.stop_peer(str(request["peer"]))
        return {}

    async def _report(self, request: Payload) -> Payload:
        if not await self._monitor.gateway_refused(str(request["peer"]), str(request["reason"])):
            raise HostError(
                "budget-used-up", "the gateway was restarted too often; an operator must look at it"
            )
        return {}

    async def _restart_gateway(self, request: Payload) -> Payload:
        await self._monitor.restart_gateway("at an operator's word", reset_tpm=bool(request.get("reset_tpm")))
        return {}

    async def _pause(self, request: Payload) -> Payload:
        self._monitor.supervising = not request["on"]
        return {}

    async def _shutdown(self, _: Payload) -> Payload:
        self.shutdown.set()
        return {}

    async def _status(self, _: Payload) -> Payload:
        return self._monitor.status()
