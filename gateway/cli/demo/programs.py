"""Small programs that the demonstration runs inside peers: `python -m gateway.cli.demo.programs ROLE …`.

They know nothing of Quotegate: ordinary clients and servers, and one saboteur.
"""

import hashlib
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

CHUNK = 65536


def receive(port: int, file: str, at_most: int) -> None:
    """Take one connection, write what comes to a file; die with a reset after `at_most` bytes."""
    server = socket.create_server(("0.0.0.0", port))
    connection, _ = server.accept()
    total = 0
    with Path(file).open("wb") as out:
        while data := connection.recv(min(CHUNK, max(1, at_most - total))):
            out.write(data)
            total += len(data)
            if total >= at_most:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os._exit(1)
    connection.sendall(b"thanks")
    connection.close()


def sink(port: int) -> None:
    """Take connections for ever and throw away what comes."""
    server = socket.create_server(("0.0.0.0", port), reuse_port=True)
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


def offer(port: int, file: str) -> None:
    """Answer each connection's first words with a file, and read on to the end."""
    answer, server = Path(file).read_bytes(), socket.create_server(("0.0.0.0", port))
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


def fetch(ip: str, port: int, file: str) -> None:
    """Send a file and say how much came back, its SHA-256, and how it ended."""
    came, end = b"", "closed"
    try:
        with socket.create_connection((ip, port), timeout=5) as connection:
            connection.sendall(Path(file).read_bytes())
            while data := connection.recv(CHUNK):
                came += data
    except TimeoutError:
        end = "silent"
    except OSError:
        end = "reset"
    print(f"{end} {len(came)} {hashlib.sha256(came).hexdigest()}", flush=True)


def chatter(ip: str, port: int, interval_ms: int) -> None:
    """Keep one established connection and send a little, all the time."""
    connection = socket.create_connection((ip, port), timeout=3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print("connected", flush=True)
    try:
        while True:
            connection.sendall(b"x" * 64)
            time.sleep(interval_ms / 1000)
    except OSError as error:
        print(f"ended {error}", flush=True)


def call(ip: str, port: int) -> None:
    """Connect once and say how it went."""
    begun = time.monotonic()
    try:
        with socket.create_connection((ip, port), timeout=2):
            print(f"connected {(time.monotonic() - begun) * 1000:.1f}", flush=True)
    except OSError as error:
        print(f"failed {type(error).__name__}", flush=True)


def delay(interface: str, port: int, pid: int, wait_ms: int, run_ms: int) -> None:
    """Let a process run only a while after each of the gateway's packets: its answers are good, but late."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    packets.bind((interface, 0x0800))
    os.kill(pid, signal.SIGSTOP)
    print("delaying", flush=True)
    while True:
        frame = packets.recv(2048)
        header = 14 + (frame[14] & 15) * 4
        from_gateway = frame[23] == socket.IPPROTO_TCP and frame[header : header + 2] == port.to_bytes(
            2, "big"
        )
        payload = int.from_bytes(frame[16:18], "big") - (header - 14) - (frame[header + 12] >> 4) * 4
        if from_gateway and payload > 0:
            time.sleep(wait_ms / 1000)
            os.kill(pid, signal.SIGCONT)
            time.sleep(run_ms / 1000)
            os.kill(pid, signal.SIGSTOP)


def main() -> None:
    """Run the role named on the command line."""
    role, *words = sys.argv[1:]
    match role:
        case "receive":
            receive(int(words[0]), words[1], int(words[2]))
        case "offer":
            offer(int(words[0]), words[1])
        case "fetch":
            fetch(words[0], int(words[1]), words[2])
        case "sink":
            sink(int(words[0]))
        case "chatter":
            chatter(words[0], int(words[1]), int(words[2]))
        case "call":
            call(words[0], int(words[1]))
        case "delay":
            delay(words[0], *map(int, words[1:5]))


if __name__ == "__main__":
    main()
