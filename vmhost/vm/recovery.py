"""Run a command in a VM through its second serial port: root's way in when nothing else answers."""

import base64
import binascii
import re
import secrets
import shlex
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmhost.errors import HostError

CONNECT_WITHIN_S, PROMPT_WITHIN_S = 5.0, 1.0
MAX_OUTPUT = 8 << 20
_PIECE = 65536
_LONGEST = 600  # the line editor of busybox drops what goes beyond a thousand
_CANCEL = b"\x03"  # brings a prompt, and forgets a line that was left half written
_PROMPT = re.compile(rb"# (\x1b\[6n)?$")
_PROMPT_SIZE = 8  # it stands at the end: what comes before is not searched, a guest may have written millions of signs like it


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it wrote (standard output and errors, as they came)."""

    status: int
    output: bytes


def run_in_guest(port: Path, command: Sequence[str], within_s: float) -> Done:
    """Run a command in the guest behind this socket; raises HostError `no-recovery`, `recovery-timeout`."""
    token, deadline = secrets.token_hex(8), time.monotonic() + within_s
    with socket.socket(socket.AF_UNIX) as serial:
        try:
            serial.settimeout(CONNECT_WITHIN_S)
            serial.connect(str(port))
            said = _converse(serial, _lines(token, command), token, deadline)
        except OSError as error:
            raise HostError(
                "no-recovery", f"{port}: speaking to the VM's second serial port: {error}; is the VM running?"
            ) from error
    if said is None:
        raise HostError(
            "recovery-timeout",
            f"{port}: expected an answer of the guest's shell within {within_s:.0f} s, got none; "
            "see the VM's console log",
        )
    try:
        return Done(int(said[1]), base64.b64decode(said[2] or b"", validate=True))
    except binascii.Error as error:
        raise HostError("bad-recovery", f"{port}: the guest's answer is damaged: {error}") from error


def _converse(
    serial: socket.socket, lines: Sequence[bytes], token: str, deadline: float
) -> "re.Match[bytes] | None":
    """Wait for the shell's prompt before each line: what comes earlier may be lost with the former one."""
    result = re.compile(rf"<{token} (\d{{1,9}}) (?:([A-Za-z0-9+/=]+) )?{token}>".encode())
    *before, last = lines
    while time.monotonic() < deadline:
        serial.sendall(_CANCEL)
        if not _prompted(serial, min(deadline, time.monotonic() + PROMPT_WITHIN_S)):
            continue
        for line in before:
            serial.sendall(line)
            if not _prompted(serial, deadline):
                return None
        serial.sendall(last)
        return _until(serial, result, deadline)
    return None


def _lines(token: str, command: Sequence[str]) -> Sequence[bytes]:
    """Lines for the guest's shell. The token is written in two parts: an echo of a line is no answer."""
    mark = f'{token[:8]}""{token[8:]}'
    file = f"/tmp/.{token}"  # noqa: S108 - in the guest, where root alone has a shell
    script = shlex.join(command)
    before: list[bytes] = []
    if len(script.encode()) > _LONGEST:
        packed = base64.b64encode(script.encode()).decode()
        pieces = [packed[at : at + _LONGEST] for at in range(0, len(packed), _LONGEST)]
        before = [f"echo {one} >>{file}.in\n".encode() for one in pieces]
        script = f"base64 -d {file}.in >{file}.sh; . {file}.sh"
    answer = f'echo "<"{mark} $? $(base64 {file} | tr -d \'\\n\') {mark}">"'
    last = f"( {script} ) >{file} 2>&1 </dev/null; {answer}; rm -f {file} {file}.in {file}.sh\n"
    return (*before, last.encode())


def _prompted(serial: socket.socket, deadline: float) -> bool:
    return _until(serial, _PROMPT, deadline, _PROMPT_SIZE) is not None


def _until(
    serial: socket.socket, wanted: "re.Pattern[bytes]", deadline: float, reach: int = 2 * MAX_OUTPUT
) -> "re.Match[bytes] | None":
    """Read until something wanted is among the last `reach` bytes; None when it does not come."""
    got = b""
    while (left := deadline - time.monotonic()) > 0 and len(got) < 2 * MAX_OUTPUT:
        serial.settimeout(left)
        try:
            piece = serial.recv(_PIECE)
        except TimeoutError:
            return None
        if not piece:
            raise ConnectionError("the VM is over")
        got += piece
        if found := wanted.search(got, max(0, len(got) - reach)):
            return found
    return None
