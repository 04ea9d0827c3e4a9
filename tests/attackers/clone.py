"""Clone: a copy of a victim's TPM, measured like the original, beside the original.

python -m tests.attackers.clone SETUP VICTIM_SETUP COPIED_STATE elsewhere|here
"""

import sys
from pathlib import Path

from tests.attackers.attempt import attempt, listen, next_beacon, say
from tests.foreign.appraisal import events, name
from tests.foreign.handshake import Handshake, enroll
from tests.foreign.setup import Setup
from tests.foreign.tpm import AK, Tpm, powered_on
from tests.foreign.wire import Wire


def its_name(victim: Setup, copy: Tpm, link: Wire) -> None:
    """The victim's name and key, with a TPM that really has it."""
    Handshake(victim, copy, link).run()


def own_name(setup: Setup, copy: Tpm, link: Wire) -> None:
    """One's own name with the victim's key."""
    Handshake(setup, copy, link).send_m1(ak=name(copy.public(AK)))
    link.receive()


def enrolled_here(setup: Setup, victim: Setup, copy: Tpm, link: Wire) -> None:
    """The victim's certificate and keys under one's own name: the copy can open the credential."""
    enroll(victim, copy, link, peer_id=setup.peer_id)


def take_over(victim: Setup, copy: Tpm, link: Wire) -> None:
    """The victim's own place: the newer session wins until the original is heard again."""
    session = Handshake(victim, copy, link).run()
    say(attack="took-over", session=session.id)
    number, nonce = next_beacon(session)
    session.answer(number, session.beacon_quote(nonce))
    listen(session)


def main() -> None:
    setup, victim, mode = Setup(sys.argv[1]), Setup(sys.argv[2]), sys.argv[4]
    with powered_on(Path(sys.argv[3])) as copy:
        for pcr, digest in events(victim.event_log.read_bytes()):
            copy.extend(pcr, digest)
        if mode == "here":
            say(attack="take-over", answer=attempt(victim, lambda link: take_over(victim, copy, link)))
            return
        say(attack="its-name", answer=attempt(setup, lambda link: its_name(victim, copy, link)))
        say(attack="own-name", answer=attempt(setup, lambda link: own_name(setup, copy, link)))
        answer = attempt(setup, lambda link: enrolled_here(setup, victim, copy, link))
        say(attack="enrolled-here", answer=answer)


if __name__ == "__main__":
    main()
