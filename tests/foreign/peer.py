"""A peer that owes nothing to Quotegate's own code: docs/protocol.md, Python's library, `cryptography` and a TPM.

    python -m tests.foreign.peer SETUP [--enroll] [--connect PEER SERVICE BYTES] [--beacons N]

Says what happens in lines of JSON, and ends after N beacons, or when the gateway hangs up.
"""

import argparse
import json
import os
import socket
import threading
import time

from tests.foreign import wire
from tests.foreign.handshake import Handshake, enroll
from tests.foreign.session import Session
from tests.foreign.setup import Setup
from tests.foreign.tpm import Tpm
from tests.foreign.wire import Wire


def say(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


def attest(setup: Setup, tpm: Tpm, tries: int = 20) -> Session:
    """Shake hands; a gateway that hangs up without a word is busy with this place, or makes it wait."""
    for _ in range(tries):
        try:
            return Handshake(setup, tpm, Wire.connect(*setup.address)).run()
        except wire.HungUp:
            time.sleep(0.2)
    raise wire.HungUp


def exchange(ip: str, service: str, size: int) -> None:
    """Send to the other peer's service and read it all back."""
    sent, got = os.urandom(size), b""
    with socket.create_connection((ip, int(service.partition("/")[2])), timeout=5) as sock:
        threading.Thread(target=sock.sendall, args=(sent,), daemon=True).start()
        while len(got) < size and (data := sock.recv(1 << 16)):
            got += data
    say("traffic", sent=len(sent), same=got == sent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("setup")
    parser.add_argument("--enroll", action="store_true")
    parser.add_argument("--connect", nargs=3, metavar=("PEER", "SERVICE", "BYTES"))
    parser.add_argument("--beacons", type=int, default=20)
    arguments = parser.parse_args()
    setup = Setup(arguments.setup)
    tpm = Tpm(setup.tpm)
    if arguments.enroll:
        say("enrolled", status=enroll(setup, tpm, Wire.connect(*setup.address)))
    session = attest(setup, tpm)
    say("attested", session=session.id, interval_ms=session.interval_ms)
    if arguments.connect:
        session.send(wire.REQUEST, 1, *arguments.connect[:2])
    traffic: threading.Thread | None = None
    while session.beacons < arguments.beacons or (traffic is not None and traffic.is_alive()):
        code, fields = session.receive()
        session.handle(code, fields)
        if code == wire.RESULT:
            say("result", granted=bool(fields[1]), reason=fields[3], ip=fields[6])
            if fields[1]:
                words = fields[6], arguments.connect[1], int(arguments.connect[2])
                traffic = threading.Thread(target=exchange, args=words, daemon=True)
                traffic.start()
    say("done", beacons=session.beacons, proofs=session.proofs)


if __name__ == "__main__":
    main()
