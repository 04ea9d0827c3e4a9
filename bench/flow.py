"""Push bytes through TCP as fast as it goes: `python -m bench.flow serve PORT | push IP PORT SECONDS`."""

import socket
import sys
import time

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


def push(ip: str, port: int, seconds: float) -> None:
    """Send for a while and print bits per second as acknowledged by the other end's close."""
    data = bytes(CHUNK)
    with socket.create_connection((ip, port), timeout=10) as out:
        begun, sent = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            sent += out.send(data)
        out.shutdown(socket.SHUT_WR)
        out.recv(1)
        print(sent * 8 / (time.monotonic() - begun), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        push(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
