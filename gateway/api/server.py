"""Serve the control API: HTTP on a unix socket, callers told apart by the kernel (SO_PEERCRED)."""

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from authn.errors import AuthnError
from filters.errors import FiltersError
from filters.suggestion import suggestion
from gateway.api import audit_handlers, handlers, policy_handlers, reading, update_handlers
from gateway.api.arguments import MAX_SHOWN
from gateway.api.door import Door
from gateway.api.places import Busy, Places
from gateway.api.reading import Turns
from gateway.api.routes import ROUTES, Call, Permission, Route
from gateway.audit.spool import FULL, WAY_OUT
from gateway.daemon.service import Service
from gateway.errors import GatewayError
from gateway.rpc import peer_uid

_log = logging.getLogger(__name__)
# aiohttp writes a traceback for whatever is no HTTP, which anybody may send as often as wanted; the caller is told, and errors
# of our own are logged here
_UNHEARD = logging.getLogger(f"{__name__}.aiohttp")
_UNHEARD.disabled = True
MAX_BODY = {Permission.READ: 64 << 10, Permission.ADMINISTER: 8 << 20}
assert audit_handlers and handlers and policy_handlers and update_handlers  # noqa: S101 - importing them registers the routes


class _TooLarge(ValueError):
    """The body is larger than is read."""


def _caller_uid(request: web.Request) -> int:
    return -1 if request.transport is None else peer_uid(request.transport)


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=headers)


async def _read_body(request: web.Request, most: int) -> dict[str, Any]:
    if not request.can_read_body:
        return {}
    data = bytearray()
    try:
        while chunk := await request.content.readany():
            data += chunk
            if len(data) > most:
                raise _TooLarge(f"the body: expected at most {most} bytes, got more")
    except (web.RequestPayloadError, OSError) as error:  # its coding is wrong, or the caller hung up
        raise ValueError("the body has a broken coding, or ends too early") from error
    try:
        body = json.loads(bytes(data))
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    if not isinstance(body, dict):
        raise ValueError("the body is not an object")
    return body


def _check_names(declared: Route, query: Iterable[str], body: Iterable[str]) -> None:
    """Refuse what would be passed over: a policy must not stay in force because `confirm_s` was misspelt."""
    in_query = declared.method == "GET"
    for where, given, taken in (("query", query, in_query), ("body", body, not in_query)):
        known = declared.takes if taken else ()
        for name, count in Counter([*given]).items():
            if name in known and count == 1:
                continue
            got = (
                "that more than once"
                if name in known
                else f"another name{suggestion(name[:MAX_SHOWN], known)}"
            )
            expected = f"{', '.join(known)}, each once" if known else "nothing"
            place = f"in the {where} of {declared.method} {declared.path}"
            raise GatewayError(
                "malformed-request", f"`{name[:MAX_SHOWN]}`: {place}: expected {expected}, got {got}"
            )


@web.middleware
async def _tell_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer every error as JSON, also where no route is."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.path}: expected {allowed}, got {request.method}"
        return _error(error.status, "wrong-method", message, {"Allow": allowed})
    except web.HTTPNotFound as error:
        return _error(
            error.status, "unknown-path", f"expected a path that docs/api.md lists, got {request.path}"
        )
    except web.HTTPException as error:
        return _error(error.status, "malformed-request", error.text or error.reason)
    except Exception:  # noqa: BLE001 - the outer edge: whatever it was, the caller is told, and the log has where
        _log.exception("control API: %s %s", request.method, request.path)
        message = "the gateway failed at this request; its log says where: expected an answer, got an error of its own"
        return _error(500, "internal", message)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What all requests share."""

    service: Service
    answering: Places
    turns: Turns
    one_by_one: asyncio.Lock  # what those who may only read have computed: peers are answered in between

    async def answer(self, declared: Route, request: web.Request) -> web.Response:
        """Answer one request."""
        uid = _caller_uid(request)
        if declared.permission is Permission.ADMINISTER and uid not in self.service.setup.allowed_uids:
            return _error(403, "not-permitted", f"uid {uid} may read, not change; run this as root")
        try:
            if not self.service.started.is_set() and not declared.when_full:
                raise GatewayError(FULL, f"the audit record has no room, so nobody is trusted; {WAY_OUT}")
            with self.answering.taken(uid):  # also of who has hung up: answering goes on
                body = await _read_body(request, MAX_BODY[declared.permission])
                _check_names(declared, [name for name, _ in request.query.items()], body)
                params = {**request.query, **request.match_info}
                call = Call(self.service, params, body, f"uid {uid}", self.turns)
                if uid in self.service.setup.allowed_uids:
                    return web.json_response(await declared.handler(call))
                return await self._answer_reader(declared, call)
        except Busy as error:
            return _error(503, error.code, error.message)
        except (GatewayError, FiltersError, AuthnError) as error:
            return _error(409, error.code, error.message)
        except _TooLarge as error:
            return _error(413, "malformed-request", f"the request can't be read: {error}")
        except ValueError as error:
            return _error(400, "malformed-request", f"the request can't be read: {error}")

    async def _answer_reader(self, declared: Route, call: Call) -> web.Response:
        """Answer who may only read: one after the other, and a large answer is written beside the loop."""
        async with contextlib.nullcontext() if declared.waits else self.one_by_one:
            answer = await declared.handler(call)
            text = await reading.read(partial(json.dumps, answer))
        return web.json_response(text=text)


async def start_api(service: Service) -> web.AppRunner:
    """Start serving; the caller cleans the runner up."""
    free = service.setup.allowed_uids
    desk = _Desk(service, Places("requests", free), Turns(), asyncio.Lock())
    app = web.Application(middlewares=[_tell_errors])
    for declared in ROUTES:
        app.router.add_route(declared.method, declared.path, partial(desk.answer, declared))
    runner = web.AppRunner(app, access_log=None, logger=_UNHEARD)
    await runner.setup()
    path = service.setup.sockets.api
    path.unlink(missing_ok=True)
    await Door(runner, path, Places("connections", free)).start()
    path.chmod(0o666)
    return runner
