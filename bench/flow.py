"""Use TCP as hard as it goes: `python -m bench.flow serve PORT | echo PORT | push IP PORT SECONDS [FILE [SOURCE_PORT]] | connect IP PORT SECONDS | ask IP PORT COUNT`.

Clients send by CUBIC (RFC 9438), Linux's default. A machine may have BBR instead, which paces a flow by what it once saw,
and was seen to keep a connection at the speed of its first milliseconds.
"""

import socket
import sys
import threading
import time
from pathlib import Path

CHUNK = 1 << 20


def serve(port: int) -> None:
    """Take one connection after the other and throw away what comes."""
    server = socket.create_server(("0.0.0.0", port))
    print("ready", flush=True)
    buffer = bytearray(CHUNK)
    while True:
        connection, _ = server.accept()
        while connection.recv_into(buffer):
            pass
        connection.close()


def echo(port: int) -> None:
    """Answer every byte."""
    server = socket.create_server(("0.0.0.0", port), backlog=512)
    print("ready", flush=True)
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _open(ip: str, port: int, source: int = 0) -> socket.socket:
    # only a port that connect chooses may have a connection that is not forgotten yet (tcp_tw_reuse): bind would run out of them
    out = socket.create_connection((ip, port), 10, ("", source) if source else None)
    out.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    return out


def _answer(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)


def connect(ip: str, port: int, seconds: float) -> None:
    """Connect, ask once, close, again and again; print connections per second."""
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        with _open(ip, port) as out:
            out.sendall(b"\0request")
            out.recv(64)
        count += 1
    print(count / (time.monotonic() - begun), flush=True)


def ask(ip: str, port: int, count: int) -> None:
    """Print median and 99th percentile of round trips on one idle connection, in microseconds."""
    times = []
    with _open(ip, port) as out:
        out.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            time.sleep(0.001)
            begun = time.perf_counter()
            out.sendall(b"\0 ask")
            out.recv(64)
            times.append((time.perf_counter() - begun) * 1e6)
    times.sort()
    print(times[len(times) // 2], times[int(len(times) * 0.99)], flush=True)


def push(ip: str, port: int, seconds: float, file: str = "", source: str = "0") -> None:
    """Send for a while and print bits per second as acknowledged by the other end's close."""
    data = Path(file).read_bytes() if file else bytes(CHUNK)
    with _open(ip, port, int(source)) as out:
        begun, sent = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            sent += out.send(data)
        out.shutdown(socket.SHUT_WR)
        out.recv(1)
        print(sent * 8 / (time.monotonic() - begun), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", number]:
            serve(int(number))
        case ["echo", number]:
            echo(int(number))
        case ["push", address, number, duration, *rest]:
            push(address, int(number), float(duration), *rest)
        case ["connect", address, number, duration]:
            connect(address, int(number), float(duration))
        case ["ask", address, number, times]:
            ask(address, int(number), int(times))
