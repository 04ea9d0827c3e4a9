"""Downgrade: ask for less, or prove less, than was agreed.

python -m tests.attackers.downgrade SETUP offer|evidence
"""

import sys
from typing import Any

from tests.attackers.attempt import attempt, say
from tests.foreign.appraisal import selection_of
from tests.foreign.handshake import Handshake
from tests.foreign.setup import Setup
from tests.foreign.tpm import Tpm
from tests.foreign.wire import M3, Wire, blob, label

OFFERS: dict[str, dict[str, Any]] = {
    "version 0": {"version": 0}, "version 2": {"version": 2}, "suite 0": {"suite": 0}, "suite 2": {"suite": 2},
    "profile": {"profile": "lab-peer"},
}  # fmt: skip


def offer(setup: Setup, link: Wire, **less: Any) -> None:
    """m1 with another version, suite or gateway profile."""
    Handshake(setup, Tpm(setup.tpm), link).send_m1(**less)
    link.receive()


def fewer_pcrs(setup: Setup, link: Wire) -> None:
    """A good quote over PCR 4 alone, where more is wanted."""
    handshake = _answered(setup, link)
    quote = handshake.tpm.quote(selection_of([4]), label("peer", blob(handshake.th2)))
    link.send(M3, handshake.m3(handshake.evidence(quote)))
    handshake.take_m4()


def other_layer(setup: Setup, link: Wire) -> None:
    """Good evidence under a layer's name that nobody judges."""
    handshake = _answered(setup, link)
    link.send(M3, handshake.m3(handshake.evidence(handshake.own_quote(), layer="host")))
    handshake.take_m4()


def _answered(setup: Setup, link: Wire) -> Handshake:
    handshake = Handshake(setup, Tpm(setup.tpm), link)
    handshake.send_m1()
    handshake.take_m2()
    return handshake


def main() -> None:
    setup = Setup(sys.argv[1])
    if sys.argv[2] == "evidence":
        say(attack="fewer-pcrs", answer=attempt(setup, lambda link: fewer_pcrs(setup, link)))
        return
    for name, less in OFFERS.items():
        answer = attempt(setup, lambda link, less=less: offer(setup, link, **less))
        say(attack=name, answer=answer)
    say(attack="other-layer", answer=attempt(setup, lambda link: other_layer(setup, link)))


if __name__ == "__main__":
    main()
