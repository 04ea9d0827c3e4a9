"""What a bench of inspection needs besides beds: who tells inspectors what to inspect, their processes, an operator's words."""

import asyncio
import random
import string
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from itertools import count, islice
from pathlib import Path

from filters.flow import Protocol
from filters.inspection.assignments import Assignment
from filters.inspection.spec import InspectionSpec
from filters.netd.packet import spread
from filters.netd.protocol import FrameReader, encode_frame
from filters.policy.compiled import CompiledPolicy
from vmhost.process import Program, Rights, start
from vmhost.spec import LabSpec

READY_WITHIN_S = 30.0
FIRST_SOURCE = 61_000  # source ports that neither far legs nor the kernel choose
_PROJECT = Path(__file__).resolve().parents[1]


class Desk:
    """Stands for quotegated. `ready` counts the inspectors that are here and know their material; a finding ends the bench."""

    def __init__(self, policy: CompiledPolicy, specs: Mapping[str, InspectionSpec]) -> None:
        self.ready = 0
        self._listed = [
            Assignment(
                int(one.protocol), str(one.source), str(one.destination), one.first, one.last, one.rule, specs[one.rule]
            ).to_json()
            for one in policy.allowed
            if one.inspected
        ]  # fmt: skip

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk with one inspector."""
        writer.write(encode_frame({"number": 1, "assignments": self._listed}))
        frames, ready = FrameReader(), False
        try:
            while data := await reader.read(1 << 16):
                for message in frames.feed(data):
                    if "finding" in message:
                        sys.exit(f"bench: the corpus is not clean: {message}")
                    if "material" in message and not ready:
                        ready = True
                        self.ready += 1
        finally:
            self.ready -= ready

    def wait(self, inspectors: int) -> None:
        """Wait in a thread until just so many are ready; ends the bench when that takes too long."""
        until = time.monotonic() + READY_WITHIN_S
        while self.ready != inspectors:
            if time.monotonic() > until:
                sys.exit(f"bench: expected {inspectors} inspectors, got {self.ready}")
            time.sleep(0.02)


@contextmanager
def inspector(
    spec: LabSpec, netd: Path, directory: Path, number: int = 0, material: Path | None = None
) -> Iterator[None]:
    """Run an inspector in the bed's gateway."""
    argv = (str(_PROJECT / ".venv/bin/python"), "-B", "-m", "filters.inspection.worker.main")
    sockets = ("--netd", str(netd.parent / "inspector.sock"), "--control", str(directory / "control.sock"))
    own = ("--number", str(number), *(("--material", str(material)) if material else ()))
    program = Program(
        f"inspector-{number}",
        (*argv, *sockets, *own),
        spec.lab.gateway_namespace,
        Rights(0, 0),
        directory / f"log-{number}",
        {"PYTHONPATH": str(_PROJECT)},
    )
    running = start(program)
    try:
        yield
    finally:
        running.stop()


def write_words(directory: Path, number: int, corpus: bytes) -> Path:
    """Write an operator's patterns: so many words of 6 to 12 letters, none of which is in the corpus."""
    rng = random.Random(7)
    words = ("".join(rng.choices(string.ascii_lowercase, k=rng.randint(6, 12))) for _ in count())
    absent = islice((one for one in words if one.encode() not in corpus), number)
    entries = (
        f'[[pattern]]\nid = "word-{at}"\nexpression = "{one}"\nkeywords = ["{one}"]\n'
        for at, one in enumerate(absent)
    )
    material = directory / "material"
    material.mkdir()
    (material / "words.toml").write_text("\n".join(entries))
    return material


class Sources:
    """Gives source ports whose connections netd hands to a certain one of two inspectors; none twice."""

    def __init__(self, source: IPv4Address, destination: IPv4Address) -> None:
        self._head = bytes(9) + bytes([Protocol.TCP]) + bytes(2) + source.packed + destination.packed
        self._next = FIRST_SOURCE

    def take(self, inspectors: Sequence[int]) -> list[int]:
        """Return a port for each wanted inspector's number."""
        return [self._take(one) for one in inspectors]

    def _take(self, inspector_number: int) -> int:
        while True:
            port, self._next = self._next, self._next + 1
            if spread(self._head + port.to_bytes(2, "big")) % 2 == inspector_number:
                return port
