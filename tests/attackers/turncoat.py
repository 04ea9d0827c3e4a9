"""Turncoat: attest, answer beacons, send traffic all the while, and change right after a good answer.

python -m tests.attackers.turncoat SETUP IP PORT
"""

import os
import socket
import sys
import threading
import time

from tests.attackers.attempt import attempt, next_beacon, say
from tests.foreign.handshake import Handshake
from tests.foreign.setup import Setup
from tests.foreign.tpm import Tpm
from tests.foreign.wire import Wire

HONEST_BEACONS = 8
EVERY_S = 0.002


def chatter(ip: str, port: int) -> None:
    """Send a little all the time on one established connection."""
    with socket.create_connection((ip, port), timeout=5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            sock.sendall(b"x" * 64)
            time.sleep(EVERY_S)


def betray(setup: Setup, ip: str, port: int, link: Wire) -> None:
    session = Handshake(setup, Tpm(setup.tpm), link).run()
    threading.Thread(target=chatter, args=(ip, port), daemon=True).start()
    changed = False
    while True:
        number, nonce = next_beacon(session)
        session.answer(number, session.beacon_quote(nonce))
        if number >= HONEST_BEACONS and not changed:
            say(changed_at=time.time())
            session.tpm.extend(10, os.urandom(32))
            changed = True


def main() -> None:
    setup, ip, port = Setup(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    say(answer=attempt(setup, lambda link: betray(setup, ip, port, link)))


if __name__ == "__main__":
    main()
