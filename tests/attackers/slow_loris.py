"""Slow loris: many connections that say nothing, and handshakes that come a byte at a time.

python -m tests.attackers.slow_loris SETUP SECONDS
"""

import contextlib
import socket
import sys
import time

from tests.attackers.attempt import say
from tests.foreign.setup import Setup
from tests.foreign.wire import M1, HungUp, Refused, Wire, u8, u32

CONNECTIONS = 60
BYTE_EVERY_S, LET_IN_S = 0.05, 0.3


def trickle(setup: Setup, until: float) -> list[str]:
    """Send an m1 a byte at a time, again and again, with a crowd beside the first one that is let in; return the refusals."""
    answers, idle = [], list[socket.socket]()
    while time.monotonic() < until:
        try:
            with contextlib.closing(Wire.connect(*setup.address)) as link:
                link.sock.sendall(u32(4096) + u8(M1))
                _drip(link, time.monotonic() + LET_IN_S)  # who is not is hung up on at once
                if not idle:
                    idle = crowd(setup)
                    say(connections=len(idle))
                _drip(link, until)
        except Refused as refusal:
            answers.append(str(refusal))
        except (HungUp, OSError):
            time.sleep(BYTE_EVERY_S)
    return answers


def _drip(link: Wire, until: float) -> None:
    link.sock.settimeout(BYTE_EVERY_S)
    while time.monotonic() < until:
        link.sock.sendall(b"x")
        with contextlib.suppress(TimeoutError):
            link.receive()


def crowd(setup: Setup) -> list[socket.socket]:
    """Open many connections and leave them."""
    sockets = []
    for _ in range(CONNECTIONS):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(setup.address)
        sockets.append(sock)
    return sockets


def main() -> None:
    setup, until = Setup(sys.argv[1]), time.monotonic() + float(sys.argv[2])
    say(answers=trickle(setup, until))


if __name__ == "__main__":
    main()
