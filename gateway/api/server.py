"""Serve the control API: HTTP on a unix socket, callers told apart by the kernel (SO_PEERCRED)."""

import json
import socket
import struct
from typing import Any

from aiohttp import web

from authn.errors import AuthnError
from filters.errors import FiltersError
from gateway.api import handlers, policy_handlers, update_handlers
from gateway.api.routes import ROUTES, Call, Permission, Route
from gateway.daemon.service import Service
from gateway.errors import GatewayError

MAX_BODY = 8 << 20
assert handlers and policy_handlers and update_handlers  # noqa: S101 - importing them registers the routes


def _caller_uid(request: web.Request) -> int:
    transport = request.transport
    if transport is None:
        return -1
    sock: socket.socket = transport.get_extra_info("socket")
    return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


async def _call_of(service: Service, request: web.Request, uid: int) -> Call:
    body: Any = {}
    if request.can_read_body:
        body = json.loads(await request.read())
        if not isinstance(body, dict):
            raise ValueError("the body is not an object")
    return Call(service, {**request.query, **request.match_info}, body, f"uid {uid}")


def _adapt(service: Service, declared: Route) -> Any:
    async def answer(request: web.Request) -> web.Response:
        uid = _caller_uid(request)
        if declared.permission is Permission.ADMINISTER and uid not in service.setup.allowed_uids:
            return _error(403, "not-permitted", f"uid {uid} may read, not change; run this as root")
        try:
            return web.json_response(await declared.handler(await _call_of(service, request, uid)))
        except (GatewayError, FiltersError, AuthnError) as error:
            return _error(409, error.code, error.message)
        except ValueError as error:
            return _error(400, "malformed-request", f"the request can't be read: {error}")

    return answer


async def start_api(service: Service) -> web.AppRunner:
    """Start serving; the caller cleans the runner up."""
    app = web.Application(client_max_size=MAX_BODY)
    for declared in ROUTES:
        app.router.add_route(declared.method, declared.path, _adapt(service, declared))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    path = service.setup.sockets.api
    path.unlink(missing_ok=True)
    await web.UnixSite(runner, str(path)).start()
    path.chmod(0o666)
    return runner
