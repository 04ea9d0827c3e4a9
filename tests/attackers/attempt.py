"""What the attackers have in common: try something on a connection, and say how the gateway answered."""

import json
import time
from collections.abc import Callable

from tests.foreign.handshake import Handshake
from tests.foreign.session import Session
from tests.foreign.setup import Setup
from tests.foreign.tpm import Tpm
from tests.foreign.wire import BEACON, HungUp, Refused, Wire

ACCEPTED, CUT, KEPT_OUT = "accepted", "cut", "kept-out"


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def attempt(setup: Setup, act: Callable[[Wire], object], tries: int = 40) -> str:
    """Return the alert's code, `cut`, or `accepted`; a place that has to wait is hung up on and waits."""
    for _ in range(tries):
        link = Wire.connect(*setup.address)
        try:
            act(link)
            return ACCEPTED
        except Refused as refusal:
            return str(refusal)
        except HungUp:
            if link.heard:
                return CUT
            time.sleep(0.25)
        finally:
            link.close()
    return KEPT_OUT


def genuine(setup: Setup, link: Wire) -> tuple[Handshake, Session]:
    """Attest honestly, to have a session to misuse."""
    handshake = Handshake(setup, Tpm(setup.tpm), link)
    return handshake, handshake.run()


def next_beacon(session: Session) -> tuple[int, bytes]:
    """Wait for a beacon, answering whatever else comes; return its number and nonce."""
    while True:
        code, fields = session.receive()
        if code == BEACON:
            session.check_beacon(fields[0], fields[4])
            return fields[0], fields[1]
        session.handle(code, fields)


def listen(session: Session) -> None:
    """Take what comes and answer nothing until the gateway hangs up."""
    while True:
        session.link.receive()
