"""A flood of forged handshakes in a victim's name, from another place.

python -m tests.attackers.forged_flood SETUP VICTIM_SETUP COUNT
"""

import os
import sys
import threading
import time
from collections import Counter

from tests.attackers.attempt import say
from tests.foreign.appraisal import name
from tests.foreign.handshake import Handshake
from tests.foreign.setup import Setup
from tests.foreign.tpm import AK, Tpm
from tests.foreign.wire import HungUp, Refused, Wire

AT_ONCE = 50
GIVE_UP_S = 0.3


def forge(setup: Setup, victim: Setup, ak_name: bytes) -> str:
    """One handshake in the victim's name; return what came of it."""
    try:
        link = Wire.connect(*setup.address, timeout=GIVE_UP_S)
    except OSError:
        return "dropped"
    try:
        Handshake(victim, _NoTpm(), link).send_m1(ak=ak_name)  # type: ignore[arg-type]
        link.receive()
    except Refused as refusal:
        return str(refusal)
    except (TimeoutError, HungUp):
        return "hung-up"
    finally:
        link.close()
    return "answered"


class _NoTpm:
    """Nobody's: a forger has none."""


def main() -> None:
    setup, victim, count = Setup(sys.argv[1]), Setup(sys.argv[2]), int(sys.argv[3])
    names = (name(Tpm(victim.tpm).public(AK)), b"\0\x0b" + os.urandom(32))
    outcomes: Counter[str] = Counter()
    numbers, lock, begun = iter(range(count)), threading.Lock(), time.monotonic()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            outcome = forge(setup, victim, names[number % 2])
            with lock:
                outcomes[outcome] += 1

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(outcomes=dict(outcomes), seconds=round(time.monotonic() - begun, 2))


if __name__ == "__main__":
    main()
