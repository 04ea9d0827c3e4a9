"""Flood the gateway from a peer: `python -m bench.flood GATEWAY CONTROL_PORT OTHER_PEER`. Ends by itself after a minute."""

import os
import socket
import sys
import threading
import time

LIMIT_S = 60.0


def connections(gateway: str, port: int, until: float) -> None:
    """Connect to the control port and send garbage, as fast as it goes."""
    while time.monotonic() < until:
        try:
            with socket.create_connection((gateway, port), timeout=0.2) as out:
                out.sendall(os.urandom(64))
        except OSError:
            continue


def packets(other: str, until: float) -> None:
    """Send datagrams to ever new ports: each would be a new flow."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        number = 0
        while time.monotonic() < until:
            number += 1
            try:
                out.sendto(b"x" * 64, (other, 1 + number % 65535))
            except OSError:
                continue
            if number % 200 == 0:
                time.sleep(0.01)  # some CPU must be left on a machine of two cores


def main() -> None:
    """Run both."""
    until = time.monotonic() + LIMIT_S
    threading.Thread(target=connections, args=(sys.argv[1], int(sys.argv[2]), until), daemon=True).start()
    packets(sys.argv[3], until)


if __name__ == "__main__":
    main()
