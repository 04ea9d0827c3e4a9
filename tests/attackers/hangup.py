"""Hang up amid a handshake, again and again, at other instants: what was under way must end with it.

python -m tests.attackers.hangup SETUP COUNT
"""

import sys
import time

from tests.attackers.attempt import say
from tests.foreign.handshake import Handshake
from tests.foreign.setup import Setup
from tests.foreign.tpm import Tpm
from tests.foreign.wire import Wire

LONGEST_S = 0.03  # past the gateway's quote


def main() -> None:
    setup, count = Setup(sys.argv[1]), int(sys.argv[2])
    tpm = Tpm(setup.tpm)
    for number in range(count):
        link = Wire.connect(*setup.address)
        Handshake(setup, tpm, link).send_m1()
        time.sleep(LONGEST_S * number / count)
        link.close()
    say(attack="hangup", answer="done")


if __name__ == "__main__":
    main()
