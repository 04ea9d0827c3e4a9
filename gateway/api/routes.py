"""Declare the routes of the control API: method, path, permission and handler stand on one line."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.api.reading import Turns
from gateway.daemon.service import Service


class Permission(StrEnum):
    """Who may call: everybody who reaches the socket may read, listed uids may change."""

    READ = "read"
    ADMINISTER = "administer"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked: its path and query parameters, its JSON body, the caller. `turns` are for what is long."""

    service: Service
    params: dict[str, str]
    body: dict[str, Any]
    actor: str
    turns: Turns


Handler = Callable[[Call], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Route:
    """One declared route.

    `takes`: the names of what it takes, in a GET's query or another's body; a request with any other name is refused.
    `waits`: it waits for something, or has bounds of its own; of others those who may only read have one answered at a time.
    `when_full`: it is answered also while the audit record has no room and nothing else is.
    """

    method: str
    path: str
    permission: Permission
    handler: Handler
    takes: tuple[str, ...] = ()
    waits: bool = False
    when_full: bool = False


ROUTES: list[Route] = []


def route(
    method: str,
    path: str,
    permission: Permission,
    *takes: str,
    waits: bool = False,
    when_full: bool = False,
) -> Callable[[Handler], Handler]:
    """Register a handler."""

    def register(handler: Handler) -> Handler:
        ROUTES.append(Route(method, path, permission, handler, takes, waits, when_full))
        return handler

    return register
