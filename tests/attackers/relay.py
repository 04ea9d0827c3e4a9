"""Relay: show what a victim's TPM proves as one's own, or speak in the victim's name from elsewhere.

    python -m tests.attackers.relay SETUP VICTIM_SETUP handshake|session

The victim's TPM is asked directly: it stands for a victim that colludes, the strongest relay there is.
"""

import sys

from tests.attackers.attempt import attempt, genuine, listen, next_beacon, say
from tests.foreign.appraisal import name
from tests.foreign.handshake import Handshake
from tests.foreign.session import Session
from tests.foreign.setup import Setup
from tests.foreign.tpm import AK, Tpm
from tests.foreign.wire import M3, Wire


def own_name(setup: Setup, victim: Setup, link: Wire) -> None:
    """A handshake of one's own, with the victim's quote over it."""
    own, theirs = Handshake(setup, Tpm(setup.tpm), link), Handshake(victim, Tpm(victim.tpm), link)
    own.send_m1()
    own.take_m2()
    theirs.th2 = own.th2
    link.send(M3, own.m3(theirs.evidence(theirs.own_quote())))
    own.take_m4()


def its_name(victim: Setup, link: Wire) -> None:
    """The victim's own handshake, every message made by its own end, carried over another place's connection."""
    Handshake(victim, Tpm(victim.tpm), link).run()


def its_key(setup: Setup, victim: Setup, link: Wire) -> None:
    """One's own name with the victim's key."""
    Handshake(setup, Tpm(setup.tpm), link).send_m1(ak=name(Tpm(victim.tpm).public(AK)))
    link.receive()


def its_beacons(setup: Setup, victim: Setup, link: Wire) -> None:
    """A session of one's own, with the victim's TPM answering the beacons."""
    session: Session = genuine(setup, link)[1]
    number, nonce = next_beacon(session)
    session.tpm = Tpm(victim.tpm)
    session.answer(number, session.beacon_quote(nonce))
    listen(session)


def main() -> None:
    setup, victim = Setup(sys.argv[1]), Setup(sys.argv[2])
    if sys.argv[3] == "session":
        say(attack="its-beacons", answer=attempt(setup, lambda link: its_beacons(setup, victim, link)))
        return
    say(attack="own-name", answer=attempt(setup, lambda link: own_name(setup, victim, link)))
    say(attack="its-name", answer=attempt(setup, lambda link: its_name(victim, link)))
    say(attack="its-key", answer=attempt(setup, lambda link: its_key(setup, victim, link)))


if __name__ == "__main__":
    main()
