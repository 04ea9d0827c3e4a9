"""Try everything a process of the system may or may not do; run with a process's own rights.

`python probe.py` reads a JSON object from standard input: `{"paths": {name: path}, "sockets": {name: path},
"requests": {name: [socket, request]}, "pids": {name: pid}, "namespace": path}` and prints `{attempt: ""}` for
what succeeded, else why not. Standard library only: the uids that run it can't read the clone.
"""

import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PTRACE_ATTACH, PTRACE_DETACH, WALL = 16, 17, 0x40000000


def _nft(*words: str) -> Callable[[], None]:
    def go() -> None:
        done = subprocess.run(["/usr/sbin/nft", *words], capture_output=True, text=True, check=False)
        if done.returncode or (words[0] == "list" and not done.stdout):
            raise PermissionError(done.stderr.strip() or "nothing is shown")

    return go


def _enter(namespace: str) -> Callable[[], None]:
    def go() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(namespace).open() as file:
            if libc.setns(file.fileno(), 0):
                raise PermissionError(os.strerror(ctypes.get_errno()))

    return go


def _packet_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def _raw_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP).close()


def _open(path: str, flags: int) -> Callable[[], None]:
    return lambda: os.close(os.open(path, flags))


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)


def _ask(path: str, request: dict[str, object]) -> Callable[[], None]:
    """Send one framed request; what is answered with `forbidden` or `not-permitted` was refused."""

    def go() -> None:
        body = json.dumps(request).encode()
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(5)
            peer.connect(path)
            peer.sendall(struct.pack(">I", len(body)) + body)
            answer = peer.recv(4096)
        if b"forbidden" in answer or b"not-permitted" in answer or not answer:
            raise PermissionError(answer[4:].decode())

    return go


def _trace(pid: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)

    def go() -> None:
        if libc.ptrace(PTRACE_ATTACH, pid, None, None):
            raise PermissionError(os.strerror(ctypes.get_errno()))
        os.waitpid(pid, WALL)
        libc.ptrace(PTRACE_DETACH, pid, None, None)

    return go


def attempts(wanted: dict) -> dict[str, Callable[[], None]]:
    """Name every attempt."""
    paths, sockets, pids = wanted["paths"], wanted["sockets"], wanted["pids"]
    found: dict[str, Callable[[], None]] = {
        "nft list": _nft("list", "ruleset"),
        "nft flush": _nft("flush", "ruleset"),
        "packet socket": _packet_socket,
        "raw socket": _raw_socket,
    }
    found["enter the host's namespace"] = _enter(wanted["namespace"])
    for name, path in paths.items():
        found[f"read {name}"] = _open(path, os.O_RDONLY)
        found[f"write {name}"] = _open(path, os.O_WRONLY)
    for name, path in sockets.items():
        found[f"open {name}"] = lambda path=path: _connect(path)
    for name, (path, request) in wanted["requests"].items():
        found[f"ask {name}"] = _ask(path, request)
    for name, pid in pids.items():
        found[f"memory of {name}"] = _open(f"/proc/{pid}/mem", os.O_RDWR)
        found[f"environment of {name}"] = _open(f"/proc/{pid}/environ", os.O_RDONLY)
        found[f"trace {name}"] = _trace(pid)
    return found


def main() -> None:
    """Try everything and tell."""
    outcome = {}
    for name, attempt in attempts(json.load(sys.stdin)).items():
        try:
            attempt()
            outcome[name] = ""
        except OSError as error:
            outcome[name] = str(error) or type(error).__name__
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
