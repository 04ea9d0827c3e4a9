"""What inspection costs: throughput, connections, round trips, beside plain routing in the same rounds.

Pattern set: the shipped secret patterns and the malware prefilter, every byte scanned; where a figure says so, 1,000
words of an operator's material directory instead. Corpus: this project's own Python sources and documents, 4 MiB of them,
as an unknown stream.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.bed import ECHO_PORT, OTHER_PORT, PORT, Bed, bed, compiled, netd_on, open_gates, route_plainly
from bench.inspectors import Desk, Sources, inspector, write_words
from bench.stats import Figure
from filters.flow import FlowKey, Protocol, Service
from filters.inspection.objects.clamd import Clamd
from filters.inspection.spec import InspectionSpec
from filters.netd.client import NetdClient
from filters.ruleset.names import INSPECTED_BIT
from tests.filters.inspection.clamd import clamd

SECONDS = 1.0
RULE = (
    '\n[[rule]]\nid = "all"\nfrom = "a"\nto = "b"\nservice = "tcp/1-5433"\naction = "allow"\nlease = "1h"\n'
    'inspect = { detectors = ["secrets", "malware"] }\n'
    '\n[[rule]]\nid = "offloaded"\nfrom = "a"\nto = "b"\nservice = "tcp/5434"\naction = "allow"\nlease = "1h"\n'
    'inspect = { offload_after = "64KiB" }\n'
    '\n[[rule]]\nid = "words"\nfrom = "a"\nto = "b"\nservice = "tcp/5435"\naction = "allow"\nlease = "1h"\n'
    'inspect = { detectors = ["patterns"] }\n'
)
DEPTH = 64 << 10
SPECS = {
    "all": InspectionSpec(),
    "offloaded": InspectionSpec(offload_after=DEPTH),
    "words": InspectionSpec(frozenset({"patterns"})),
}
SECOND_PORT, WORDS_PORT = 5431, 5435  # of rules `all` and `words`
WORDS = 1000
CORPUS_BYTES = 4 << 20
Pair = tuple[list[float], list[float]]  # what is compared, baseline first, round by round
CLAMD_OBJECT = 900 << 10  # bytes: below the limit of its configuration here


@dataclass(frozen=True, slots=True)
class Stage:
    """What the rounds need."""

    plain: Bed
    inspected: Bed
    desk: Desk
    netd: Path
    directory: Path

    @property
    def corpus(self) -> Path:
        """The file that is sent."""
        return self.directory / "corpus"


def measure(rounds: int) -> list[Figure]:
    """Run everything about inspection; about 15 s a round."""
    sinks = (SECOND_PORT, WORDS_PORT)
    with (
        bed("bench-plain", "10.70.1.0/24") as plain,
        bed("bench-inspect", "10.70.2.0/24", RULE, sinks) as inspected,
    ):
        route_plainly(plain.spec)
        with netd_on(inspected.spec) as socket, TemporaryDirectory(prefix="qg-bench-") as directory:
            desk = Desk(compiled(inspected.spec), SPECS)
            return asyncio.run(_measure(Stage(plain, inspected, desk, socket, Path(directory)), rounds))


async def _measure(stage: Stage, rounds: int) -> list[Figure]:
    spec = stage.inspected.spec
    client = await NetdClient.connect(str(stage.netd))
    stage.corpus.write_bytes(make_corpus())
    try:
        await open_gates(client, spec)
        ends = spec.machine("a").ip, spec.machine("b").ip
        for number, port in enumerate((PORT, ECHO_PORT, OTHER_PORT, SECOND_PORT, WORDS_PORT), 1):
            key = FlowKey(*ends, Service(Protocol.TCP, port))
            await client.grant(INSPECTED_BIT | number, key, 3_600_000)
        server = await asyncio.start_unix_server(stage.desk.attend, stage.directory / "control.sock")
        material = write_words(stage.directory, WORDS, stage.corpus.read_bytes())
        with inspector(spec, stage.netd, stage.directory, material=material):
            figures = await asyncio.to_thread(_rounds, stage, rounds)
        server.close()
        return figures
    finally:
        await client.close()


def make_corpus() -> bytes:
    """Return source and prose of this project, repeated to size."""
    root = Path(__file__).resolve().parents[1]
    files = sorted([*root.glob("filters/**/*.py"), *root.glob("gateway/**/*.py"), *root.glob("docs/**/*.md")])
    # without the places that speak of secrets' own forms
    text = b"".join(one.read_bytes() for one in files if "patterns" not in one.parts)
    return (text * (CORPUS_BYTES // len(text) + 1))[:CORPUS_BYTES]


def _rounds(stage: Stage, rounds: int) -> list[Figure]:
    with TemporaryDirectory(prefix="qg-bench-clamd-") as directory, clamd(Path(directory)) as reference:
        stage.desk.wait(1)
        return _measure_rounds(stage, Clamd(reference), rounds)


def _ask_clamd(reference: Clamd, corpus: bytes) -> float:
    """Return Gbit/s through INSTREAM, one connection after the other; its database has one signature."""
    begun, done = time.monotonic(), 0
    while time.monotonic() - begun < SECONDS:
        at = done % (len(corpus) - CLAMD_OBJECT)
        if found := reference(corpus[at : at + CLAMD_OBJECT], 10):
            sys.exit(f"bench: clamd says {found}")
        done += CLAMD_OBJECT
    return done * 8 / (time.monotonic() - begun) / 1e9


def _side_by_side(stage: Stage, sources: Sources) -> tuple[float, float]:
    """Return Gbit/s of two flows through one inspector, and through two; the second one is here only meanwhile."""
    bed, ports = stage.inspected, (PORT, SECOND_PORT)
    with inspector(bed.spec, stage.netd, stage.directory, number=1):
        stage.desk.wait(2)
        one, two = (
            bed.push_together(SECONDS, str(stage.corpus), ports, sources.take(wanted)) / 1e9
            for wanted in ((0, 0), (0, 1))
        )
    stage.desk.wait(1)
    return one, two


def _pair() -> Pair:
    return [], []


def _add(pair: Pair, values: Iterable[float]) -> None:
    for kept, value in zip(pair, values, strict=True):
        kept.append(value)


def _measure_rounds(stage: Stage, reference: Clamd, rounds: int) -> list[Figure]:
    beds = (stage.plain, stage.inspected)
    corpus, text = str(stage.corpus), stage.corpus.read_bytes()
    push, offloaded, connect, p50, p99, together = (_pair() for _ in range(6))
    scanned: list[float] = []
    words: list[float] = []
    spec = stage.inspected.spec
    sources = Sources(spec.machine("a").ip, spec.machine("b").ip)
    stage.inspected.push(0.1, corpus, WORDS_PORT)  # its patterns are compiled
    for _ in range(rounds):
        scanned.append(_ask_clamd(reference, text))
        _add(push, (one.push(SECONDS, corpus) / 1e9 for one in beds))
        words.append(stage.inspected.push(SECONDS, corpus, WORDS_PORT) / 1e9)
        _add(offloaded, (one.push_from_one_cpu(SECONDS, OTHER_PORT) / 1e9 for one in beds))
        _add(connect, (one.connect(SECONDS) for one in beds))
        for pair, values in zip((p50, p99), zip(*(one.ask(500) for one in beds), strict=True), strict=True):
            _add(pair, values)
        _add(together, _side_by_side(stage, sources))
    added = [[two - one for one, two in zip(*pair, strict=True)] for pair in (p50, p99)]
    note = f"corpus median {statistics.median(push[1]):.2f} Gbit/s"
    cores = len(os.sched_getaffinity(0))
    shared = f"{cores} cores carry two senders, two receivers and the inspectors together"
    return [
        Figure("every byte of one flow inspected / plain routed", "x", push[1], "plain routed, Gbit/s", push[0], 0.4, True, True, note),
        Figure("every byte of one flow inspected / clamd INSTREAM", "x", push[1], "clamd, Gbit/s", scanned, 5, True, True),
        Figure(f"every byte inspected, {WORDS} words of an operator / plain routed", "x", words, "plain routed, Gbit/s", push[0], 0.6, True, True, f"{WORDS} plain words of 6 to 12 letters"),
        Figure(f"two inspectors on two flows / one, {cores} cores", "x", together[1], "one inspector, Gbit/s", together[0], 1.6, True, True, shared),
        Figure("offloaded after 64 KiB / plain routed", "x", offloaded[1], "plain routed, Gbit/s", offloaded[0], 0.95, True, True),
        Figure("inspected connections / routed", "x", connect[1], "routed, 1/s", connect[0], 0.5, True, True),
        Figure("round trip added by inspection, p50", "us", added[0], "routed, us", p50[0], 50, False, False),
        Figure("round trip added by inspection, p99", "us", added[1], "routed, us", p99[0], 500, False, False),
    ]  # fmt: skip
