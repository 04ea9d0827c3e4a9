"""Ask a lab's monitor; synchronous, for commands and tests. `vmhost.monitor.protocol` says what may be asked."""

import json
import socket
from typing import Any

from vmhost.errors import HostError
from vmhost.monitor.protocol import LENGTH, encode
from vmhost.names import Lab


def ask(lab: Lab, op: str, timeout_s: float = 30.0, **params: object) -> dict[str, Any]:
    """Send one request and return the answer; raises HostError, `away` when no monitor listens."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(lab.monitor_socket))
            sock.sendall(encode({"op": op, **params}))
            (length,) = LENGTH.unpack(_exactly(sock, LENGTH.size))
            answer: dict[str, Any] = json.loads(_exactly(sock, length))
    except (OSError, ValueError) as error:
        absent = isinstance(error, FileNotFoundError | ConnectionRefusedError)  # else it may only be busy
        hint = f"is the lab up? {way_up(lab)}" if absent else f"its log says more: {lab.monitor_log}"
        raise HostError("away", f"the monitor of lab {lab.name} does not answer ({error}); {hint}") from error
    if not answer.pop("ok"):
        raise HostError(answer["code"], answer["message"])
    return answer


def way_up(lab: Lab) -> str:
    """Return the command that starts a lab's machines: with the state that is kept, where one may see some."""
    try:
        kept = lab.kept_dir.is_dir()
    except OSError:  # root alone may look there
        kept = False
    return f"quotegate lab {'resume' if kept else 'up'} --lab {lab.name}"


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise OSError("it hung up")
        data += part
    return data
