"""Messages that are almost right, in sessions that are: `python -m tests.attackers.fuzzer SETUP COUNT SEED`.

Fields are drawn from what is known and from extremes; some messages are then bent, some frames are of another kind. Beacons
are answered well meanwhile: a quote that is wrong is somebody else's attack.
"""

import os
import random
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from tests.attackers.attempt import genuine, say
from tests.foreign import wire
from tests.foreign.session import Session
from tests.foreign.setup import Setup
from tests.foreign.wire import Foul, HungUp, Refused, Wire

PER_S = 400
NUMBERS = (0, 1, 2, 255, (1 << 31) - 1, (1 << 63), (1 << 64) - 1)
TEXTS = (
    "db",
    "web",
    "ops",
    "",
    "\0",
    "tcp/5432",
    "tcp/8080",
    "udp/53",
    "icmp/echo",
    "tcp/0",
    "any",
    "ü" * 60,
    "%s%n",
    "../../x",
    "A" * 256,
)
KINDS = (wire.REQUEST,) * 4 + (wire.QUERY, wire.REPORT, wire.PROOF, wire.ANSWER) * 3
FOREIGN = (wire.CHALLENGE, wire.RESULT, wire.OFFER, wire.CLOSED, wire.REFUSED)
FOUL_EVERY = 1000  # messages: one frame that no session can take
FRAMES = (0, 1, 2, 3, 4, 16, 17, 18, 19, 20, 21, 255)


class Draw:
    """What comes next, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def field(self, kind: str) -> Any:
        pick = self.random
        match kind:
            case "n":
                return pick.choice(NUMBERS) if pick.random() < 0.7 else pick.getrandbits(64)
            case "t":
                return pick.choice(TEXTS)
            case "f":
                return pick.choice((0, 1))
            case "q":
                return pick.randbytes(pick.choice((0, 5, 140))), pick.randbytes(pick.choice((0, 70)))
            case "h":
                return pick.randbytes(32)
            case _:
                return pick.randbytes(pick.choice((0, 1, 40, 3000)))

    def message(self) -> bytes:
        """One message, mostly well-formed."""
        code = self.random.choice(FOREIGN if self.random.random() < 0.003 else KINDS)
        fields = [self.field(kind) for kind in wire.LAYOUT[code]]
        if code == wire.ANSWER:
            fields[0] = 0  # to an old beacon: a wrong answer to the latest is punished, as it should be
            fields[3] = b""
        plain = bytearray(wire.encode_message(code, *fields))
        if self.random.random() < 0.004:
            at = self.random.randrange(len(plain))
            plain[at : at + self.random.choice((0, 1, 4))] = self.random.choice(
                (b"", b"\0", b"\xff\xff\xff\xff")
            )
        return bytes(plain)


class Fuzzer:
    """One session after the other; whatever ends one, the next begins."""

    def __init__(self, setup: Setup, count: int, seed: int) -> None:
        self.setup, self.left, self.draw = setup, count, Draw(seed)
        self.ends: Counter[str] = Counter()
        self.lock = threading.Lock()

    def run(self) -> None:
        while self.left > 0:
            try:
                link = Wire.connect(*self.setup.address)
                _, session = genuine(self.setup, link)
            except (HungUp, Refused) as error:
                self.ends[f"handshake {error or 'hung-up'}"] += 1
                time.sleep(0.1)
                continue
            except (
                OSError
            ):  # our machine is being restarted, for what an earlier session said: TPM or link is away
                self.ends["restarted"] += 1
                time.sleep(0.1)
                continue
            listener = threading.Thread(target=self.listen, args=(session,))
            listener.start()
            with suppress(HungUp):
                self.talk(session, listener)
            self.ends["hung-up" if self.left else "done"] += 1
            link.sock.close()
            listener.join()

    def listen(self, session: Session) -> None:
        """Do what an honest peer does, until the gateway hangs up."""
        try:
            while True:
                code, fields = session.receive()
                with self.lock:
                    session.handle(code, fields)
        except (HungUp, Refused, Foul, OSError, ValueError):
            session.link.sock.close()

    def talk(self, session: Session, listener: threading.Thread) -> None:
        begun, sent = time.monotonic(), 0
        while self.left > 0 and listener.is_alive():
            with self.lock:
                self.left -= 1
                if self.left % FOUL_EVERY == 0:
                    kind, body = self.draw.random.choice(FRAMES), self.draw.random.randbytes(40)
                    session.link.send(kind, body)
                else:
                    session.link.send(wire.RECORD, session.out.seal(self.draw.message()))
            sent += 1
            time.sleep(max(0.0, begun + sent / PER_S - time.monotonic()))


def main() -> None:
    fuzzer = Fuzzer(Setup(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    fuzzer.run()
    say(ends=dict(fuzzer.ends), pid=os.getpid())


if __name__ == "__main__":
    main()
