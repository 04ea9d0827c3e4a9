"""Replay: messages, records and quotes that were good once, a second time.

python -m tests.attackers.replay SETUP record|quote
"""

import sys

from tests.attackers.attempt import attempt, genuine, listen, next_beacon, say
from tests.foreign.setup import Setup
from tests.foreign.wire import M1, M2, M3, RECORD, Wire

recorded: dict[str, bytes] = {}


def repeated_record(setup: Setup, link: Wire) -> None:
    """The same answer to a beacon twice; m1, m3 and the answer are kept for the attacks that follow."""
    send = link.send

    def keep(kind: int, body: bytes) -> None:
        recorded[{M1: "m1", M3: "m3"}.get(kind, "record")] = body
        send(kind, body)

    link.send = keep  # type: ignore[method-assign]
    session = genuine(setup, link)[1]
    number, nonce = next_beacon(session)
    session.answer(number, session.beacon_quote(nonce))
    link.send(RECORD, recorded["record"])
    listen(session)


def old_handshake(link: Wire) -> None:
    """m1 and m3 of an earlier handshake."""
    link.send(M1, recorded["m1"])
    link.receive(M2)
    link.send(M3, recorded["m3"])
    link.receive()


def old_record(setup: Setup, link: Wire) -> None:
    """A record of an earlier session."""
    session = genuine(setup, link)[1]
    next_beacon(session)
    link.send(RECORD, recorded["record"])
    listen(session)


def old_quote(setup: Setup, link: Wire) -> None:
    """The answer to one beacon as the answer to the next."""
    session = genuine(setup, link)[1]
    number, nonce = next_beacon(session)
    quote = session.beacon_quote(nonce)
    session.answer(number, quote)
    number, _ = next_beacon(session)
    session.answer(number, quote)
    listen(session)


def main() -> None:
    setup = Setup(sys.argv[1])
    if sys.argv[2] == "quote":
        say(attack="old-quote", answer=attempt(setup, lambda link: old_quote(setup, link)))
        return
    say(attack="repeated-record", answer=attempt(setup, lambda link: repeated_record(setup, link)))
    say(attack="old-handshake", answer=attempt(setup, old_handshake))
    say(attack="old-record", answer=attempt(setup, lambda link: old_record(setup, link)))


if __name__ == "__main__":
    main()
