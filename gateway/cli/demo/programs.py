"""Small programs that the demonstration runs inside peers: `python -m gateway.cli.demo.programs ROLE …`.

They know nothing of the gateway: ordinary clients and servers, one saboteur, and one that asks the local agent.
"""

import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

from gateway.cli.demo.pieces import Content, describe

CHUNK = 65536


def receive(port: str, at_most: str) -> None:
    """Take one connection and say what came; die with a reset after `at_most` bytes, few more being in the kernel."""
    limit, came = int(at_most), b""
    server = socket.create_server(("0.0.0.0", int(port)))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
    print("up", flush=True)
    connection, _ = server.accept()
    while data := connection.recv(min(CHUNK, max(1, limit - len(came)))):
        came += data
        if len(came) >= limit:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os._exit(1)
    connection.sendall(b"thanks\n")
    connection.close()
    print(describe(came), flush=True)


def sink(port: str) -> None:
    """Take connections for ever and throw away what comes."""
    server = socket.create_server(("0.0.0.0", int(port)), reuse_port=True)
    print("up", flush=True)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            try:
                while connection.recv(CHUNK):
                    pass
            except OSError:
                pass
            os._exit(0)


def offer(port: str, content: str) -> None:
    """Answer each connection's first words with some content, and read on to the end."""
    answer, server = Content.parse(content).data(), socket.create_server(("0.0.0.0", int(port)))
    print("up", flush=True)
    while True:
        connection, _ = server.accept()
        try:
            connection.recv(CHUNK)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(CHUNK):
                pass
        except OSError:
            pass
        connection.close()


def fetch(ip: str, port: str, content: str) -> None:
    """Send some content and say how it ended, and what came back."""
    came, end = b"", "closed"
    try:
        with socket.create_connection((ip, int(port)), timeout=5) as connection:
            connection.sendall(Content.parse(content).data())
            while data := connection.recv(CHUNK):
                came += data
    except TimeoutError:
        end = "silent"
    except OSError:
        end = "reset"
    print(f"{end} {describe(came)}", flush=True)


def write(content: str) -> None:
    """Write some content to standard output."""
    sys.stdout.buffer.write(Content.parse(content).data())


def chatter(ip: str, port: str, interval_ms: str) -> None:
    """Keep one established connection and send a little, all the time."""
    connection = socket.create_connection((ip, int(port)), timeout=3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print("connected", flush=True)
    try:
        while True:
            connection.sendall(b"x" * 64)
            time.sleep(int(interval_ms) / 1000)
    except OSError as error:
        print(f"ended {error}", flush=True)


def call(ip: str, port: str) -> None:
    """Connect once and say how it went."""
    begun = time.monotonic()
    try:
        with socket.create_connection((ip, int(port)), timeout=2):
            print(f"connected {(time.monotonic() - begun) * 1000:.1f}", flush=True)
    except OSError as error:
        print(f"failed {type(error).__name__}", flush=True)


def ask(agent: str, peer: str, service: str) -> None:
    """Ask the agent behind a socket for a session, as any local program may, and print its answer (JSON)."""
    request = b'{"op": "open", "peer": "%s", "service": "%s"}' % (peer.encode(), service.encode())
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(agent)
            sock.sendall(struct.pack(">I", len(request)) + request)
            (length,) = struct.unpack(">I", sock.recv(4, socket.MSG_WAITALL))
            print(sock.recv(length, socket.MSG_WAITALL).decode(), flush=True)
    except (OSError, struct.error):  # the agent is just being started
        print("{}", flush=True)


def delay(interface: str, port: str, pid: str, wait_ms: str, run_ms: str) -> None:
    """Let a process run only a while after each of the gateway's packets: its answers are good, but late."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    packets.bind((interface, 0x0800))
    os.kill(int(pid), signal.SIGSTOP)
    print("delaying", flush=True)
    while True:
        if _speaks(packets.recv(2048), int(port)):
            time.sleep(int(wait_ms) / 1000)
            os.kill(int(pid), signal.SIGCONT)
            time.sleep(int(run_ms) / 1000)
            os.kill(int(pid), signal.SIGSTOP)


def _speaks(frame: bytes, port: int) -> bool:
    """Tell whether a frame brings bytes from this TCP port."""
    header = 14 + (frame[14] & 15) * 4
    from_port = frame[23] == socket.IPPROTO_TCP and frame[header : header + 2] == port.to_bytes(2, "big")
    return from_port and int.from_bytes(frame[16:18], "big") > header - 14 + (frame[header + 12] >> 4) * 4


ROLES: dict[str, Callable[..., None]] = {
    one.__name__: one for one in (receive, sink, offer, fetch, write, chatter, call, ask, delay)
}


def main() -> None:
    """Run the role named on the command line."""
    role, *words = sys.argv[1:]
    ROLES[role](*words)


if __name__ == "__main__":
    main()
