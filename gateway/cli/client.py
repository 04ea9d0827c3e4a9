"""Call the control API: HTTP over the unix socket, with the standard library alone."""

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gateway.errors import GatewayError
from vmhost.errors import HostError
from vmhost.monitor.client import way_up
from vmhost.names import Lab

SOCKET_VARIABLE = "QUOTEGATE_API"
TIMEOUT_S = 40.0
WHOLE_RECORD_S = 3600.0  # what reads or takes away the whole audit record: ten thousand records a second, and others' turns


class ApiError(GatewayError):
    """The gateway refused, or does not answer (code `away`)."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("gateway", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class ApiClient:
    """The control API of one gateway."""

    def __init__(self, path: Path, timeout: float = TIMEOUT_S) -> None:
        self._path, self._timeout = path, timeout

    def get(self, path: str) -> dict[str, Any]:
        """Read; raises ApiError."""
        return self._call("GET", path, None)

    def post(self, path: str, **body: object) -> dict[str, Any]:
        """Change, or ask with a body; raises ApiError."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> dict[str, Any]:
        """Remove; raises ApiError."""
        return self._call("DELETE", path, None)

    def _call(self, method: str, path: str, body: dict[str, object] | None) -> dict[str, Any]:
        connection = _UnixConnection(self._path, self._timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ApiError(
                "away",
                f"the gateway does not answer at {self._path}: {error}; is it running?{_way_up(self._path)}",
            ) from error
        finally:
            connection.close()
        answer = _parsed(content)
        if "error" in answer:
            raise ApiError(str(answer["error"]["code"]), str(answer["error"]["message"]))
        return answer


class _Answer(dict[str, Any]):
    """What a gateway answered: one of another version, or one that was taken over, may lack what we look for."""

    def __missing__(self, key: str) -> Any:
        raise _not_understood(f"an answer without `{key}`")


def _parsed(content: bytes) -> _Answer:
    try:
        answer = json.loads(content, object_hook=_Answer)
    except (ValueError, RecursionError):
        raise _not_understood(repr(content[:40])) from None
    if not isinstance(answer, _Answer) or not isinstance(answer.get("error", answer), _Answer):
        raise _not_understood(repr(content[:40]))
    return answer


def _not_understood(got: str) -> ApiError:
    return ApiError(
        "bad-answer",
        f"expected the gateway's answer as docs/api.md has it, got {got}; is it of another version?",
    )


def in_path(name: str) -> str:
    """Return what is one part of a path or of a query; raises GatewayError `bad-name`."""
    if name in ("", ".", ".."):
        raise GatewayError("bad-name", f"expected a name, a number or an id, got {name!r}")
    return quote(name, safe="", errors="surrogateescape")


def _way_up(path: Path) -> str:
    """Say how the lab with this socket is started; nothing for a socket that is no lab's."""
    try:
        lab = Lab(path.parents[2].name)
    except (HostError, IndexError):
        return ""
    return f" ({way_up(lab)})" if path == lab.api_socket else ""


def api_socket(lab: str) -> Path:
    """Find the API's socket: $QUOTEGATE_API, else that of the named lab; raises HostError for what is no lab's name."""
    named = os.environ.get(SOCKET_VARIABLE)
    return Path(named) if named else Lab(lab).api_socket
