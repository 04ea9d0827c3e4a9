"""What inspection costs: throughput, connections, round trips, beside plain routing in the same rounds.

Pattern set: the 247 shipped secret patterns and the malware prefilter, every byte scanned. Corpus: this project's own
Python sources and documents, 4 MiB of them, as an unknown stream.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.bed import ECHO_PORT, OTHER_PORT, PORT, Bed, bed, compiled, netd_on, open_gates, route_plainly
from bench.stats import Figure
from filters.flow import FlowKey, Protocol, Service
from filters.inspection.assignments import Assignment
from filters.inspection.objects.clamd import Clamd
from filters.inspection.spec import InspectionSpec
from filters.netd.client import NetdClient
from filters.netd.protocol import encode_frame
from filters.policy.compiled import CompiledPolicy
from filters.ruleset.names import INSPECTED_BIT
from tests.filters.inspection.clamd import clamd
from vmhost.process import Program, Rights, start
from vmhost.spec import LabSpec

SECONDS = 1.0
RULE = (
    '\n[[rule]]\nid = "all"\nfrom = "a"\nto = "b"\nservice = "tcp/1-5433"\naction = "allow"\nlease = "1h"\n'
    'inspect = { detectors = ["secrets", "malware"] }\n'
    '\n[[rule]]\nid = "offloaded"\nfrom = "a"\nto = "b"\nservice = "tcp/5434"\naction = "allow"\nlease = "1h"\n'
    'inspect = { offload_after = "64KiB" }\n'
)
DEPTH = 64 << 10
CORPUS_BYTES = 4 << 20
CLAMD_OBJECT = 900 << 10  # bytes: below the limit of its configuration here


def measure(rounds: int) -> list[Figure]:
    """Run everything about inspection; about 10 s a round."""
    with bed("bench-plain", "10.70.1.0/24") as plain, bed("bench-inspect", "10.70.2.0/24", RULE) as inspected:
        route_plainly(plain.spec)
        with netd_on(inspected.spec) as socket, TemporaryDirectory(prefix="qg-bench-") as directory:
            return asyncio.run(_measure(plain, inspected, socket, Path(directory), rounds))


async def _measure(plain: Bed, inspected: Bed, netd: Path, directory: Path, rounds: int) -> list[Figure]:
    client = await NetdClient.connect(str(netd))
    corpus = directory / "corpus"
    corpus.write_bytes(make_corpus())
    try:
        await open_gates(client, inspected.spec)
        ends = inspected.spec.machine("a").ip, inspected.spec.machine("b").ip
        for number, port in enumerate((PORT, ECHO_PORT, OTHER_PORT), 1):
            key = FlowKey(*ends, Service(Protocol.TCP, port))
            await client.grant(INSPECTED_BIT | number, key, 3_600_000)
        ready = asyncio.Event()
        server = await asyncio.start_unix_server(
            _desk(compiled(inspected.spec), ready), directory / "control.sock"
        )
        with _inspector(inspected.spec, netd, directory):
            await asyncio.wait_for(ready.wait(), 20)
            await asyncio.sleep(3)  # its judges start
            figures = await asyncio.to_thread(_rounds, plain, inspected, str(corpus), rounds)
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


def _desk(policy: CompiledPolicy, ready: asyncio.Event) -> object:
    specs = {"all": InspectionSpec(), "offloaded": InspectionSpec(offload_after=DEPTH)}
    listed = [
        Assignment(
            int(one.protocol),
            str(one.source),
            str(one.destination),
            one.first,
            one.last,
            one.rule,
            specs[one.rule],
        ).to_json()
        for one in policy.allowed
        if one.inspected
    ]

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode_frame({"number": 1, "assignments": listed}))
        while data := await reader.read(1 << 16):
            ready.set()
            if b"finding" in data:
                sys.exit(f"bench: the corpus is not clean: {data!r}")

    return attend


@contextmanager
def _inspector(spec: LabSpec, netd: Path, directory: Path) -> Iterator[None]:
    project = Path(__file__).resolve().parents[1]
    argv = (str(project / ".venv/bin/python"), "-B", "-m", "filters.inspection.worker.main")
    sockets = ("--netd", str(netd.parent / "inspector.sock"), "--control", str(directory / "control.sock"))
    environment = {"PYTHONPATH": str(project)}
    program = Program(
        "inspector",
        (*argv, *sockets),
        spec.lab.gateway_namespace,
        Rights(0, 0),
        directory / "log",
        environment,
    )
    running = start(program)
    try:
        yield
    finally:
        running.stop()


def _rounds(plain: Bed, inspected: Bed, corpus: str, rounds: int) -> list[Figure]:
    with TemporaryDirectory(prefix="qg-bench-clamd-") as directory, clamd(Path(directory)) as reference:
        return _measure_rounds(plain, inspected, corpus, Clamd(reference), rounds)


def _ask_clamd(reference: Clamd, corpus: bytes) -> float:
    """Return Gbit/s through INSTREAM, one connection after the other; its database has one signature."""
    begun, done = time.monotonic(), 0
    while time.monotonic() - begun < SECONDS:
        at = done % (len(corpus) - CLAMD_OBJECT)
        if found := reference(corpus[at : at + CLAMD_OBJECT], 10):
            sys.exit(f"bench: clamd says {found}")
        done += CLAMD_OBJECT
    return done * 8 / (time.monotonic() - begun) / 1e9


def _measure_rounds(plain: Bed, inspected: Bed, corpus: str, reference: Clamd, rounds: int) -> list[Figure]:
    beds, scanned, text = (plain, inspected), [], Path(corpus).read_bytes()
    push, connect, p50, p99 = ([], []), ([], []), ([], []), ([], [])
    offloaded: list[float] = []
    for _ in range(rounds):
        scanned.append(_ask_clamd(reference, text))
        for at, one in enumerate(beds):
            push[at].append(one.push(SECONDS, corpus) / 1e9)
            if one is inspected:
                offloaded.append(one.push(SECONDS, corpus, OTHER_PORT) / 1e9)
            connect[at].append(one.connect(SECONDS))
            for kept, value in zip((p50, p99), one.ask(500), strict=True):
                kept[at].append(value)
    added = [[two - one for one, two in zip(*pair, strict=True)] for pair in (p50, p99)]
    note = f"corpus median {statistics.median(push[1]):.2f} Gbit/s"
    return [
        Figure("every byte of one flow inspected / plain routed", "x", push[1], "plain routed, Gbit/s", push[0], 0.4, True, True, note),
        Figure("every byte of one flow inspected / clamd INSTREAM", "x", push[1], "clamd, Gbit/s", scanned, 5, True, True),
        Figure("offloaded after 64 KiB / plain routed", "x", offloaded, "plain routed, Gbit/s", push[0], 0.95, True, True),
        Figure("inspected connections / routed", "x", connect[1], "routed, 1/s", connect[0], 0.5, True, True),
        Figure("round trip added by inspection, p50", "us", added[0], "routed, us", p50[0], 50, False, False),
        Figure("round trip added by inspection, p99", "us", added[1], "routed, us", p99[0], 500, False, False),
    ]  # fmt: skip
