"""The one client of netd: who comes after it, and when."""

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from filters.errors import NetdError
from filters.netd.server import Connection, Server


def _served(cut: Any) -> tuple[Server, list[str]]:
    """Return a server with a client, whose service cuts in this way, and what it did to end netd."""
    ended: list[str] = []
    server = Server(os.geteuid(), lambda: ended.append("netd"))
    server.service = cast(Any, SimpleNamespace(forget_client=cut))
    server.admit(client := Connection(server), os.geteuid())
    server.part(client)
    return server, ended


@pytest.mark.parametrize("error", [NetdError("kernel", "no"), OSError(24, "Too many open files")])
def test_rejects_a_next_client_for_ever_when_the_last_ones_permissions_stand(error: Exception) -> None:
    """Nobody else may come then, and without an end of netd nobody ever would."""

    def fail() -> None:
        raise error

    server, ended = _served(fail)
    assert ended == ["netd"]
    with pytest.raises(NetdError, match="netd has a client"):
        server.admit(Connection(server), os.geteuid())


def test_the_next_client_may_come_when_all_is_cut() -> None:
    server, ended = _served(lambda: None)
    server.admit(Connection(server), os.geteuid())
    assert ended == []
