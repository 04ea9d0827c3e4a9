"""Reflection: send the gateway what it said itself.

python -m tests.attackers.reflection SETUP handshake|record|proof
"""

import sys

from tests.attackers.attempt import attempt, genuine, listen, say
from tests.foreign.handshake import Handshake
from tests.foreign.setup import Setup
from tests.foreign.tpm import Tpm
from tests.foreign.wire import BEACON, M2, M3, M4, RECORD, Wire, decode_message


def own_m2(setup: Setup, link: Wire) -> None:
    """m2 back, where m3 is due."""
    Handshake(setup, Tpm(setup.tpm), link).send_m1()
    link.send(M2, link.receive(M2)[1])
    link.receive()


def own_quote(setup: Setup, link: Wire) -> None:
    """The quote of m2 as the evidence in m3."""
    handshake = Handshake(setup, Tpm(setup.tpm), link)
    handshake.send_m1()
    handshake.take_m2()
    assert handshake.m2 is not None
    link.send(M3, handshake.m3(handshake.evidence(handshake.m2.batch.quote)))
    handshake.take_m4()


def own_m4(setup: Setup, link: Wire) -> None:
    """m4 back, in the session."""
    handshake, session = genuine(setup, link)
    link.send(M4, handshake.m4)
    listen(session)


def own_record(setup: Setup, link: Wire) -> None:
    """A beacon's record back."""
    session = genuine(setup, link)[1]
    link.send(RECORD, link.receive(RECORD)[1])
    listen(session)


def own_proof(setup: Setup, link: Wire) -> None:
    """The quote that proves the gateway in its beacon, as the answer to that beacon."""
    session = genuine(setup, link)[1]
    while True:
        code, fields = decode_message(session.into.open(link.receive(RECORD)[1]))
        if code == BEACON and fields[4] is not None:
            session.answer(fields[0], fields[4].quote)
            listen(session)
        session.handle(code, fields)


def main() -> None:
    setup, mode = Setup(sys.argv[1]), sys.argv[2]
    attacks = {"handshake": (own_m2, own_quote), "record": (own_m4, own_record), "proof": (own_proof,)}[mode]
    for attack in attacks:
        answer = attempt(setup, lambda link, attack=attack: attack(setup, link))
        say(attack=attack.__name__.replace("_", "-"), answer=answer)


if __name__ == "__main__":
    main()
