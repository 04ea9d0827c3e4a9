"""What kinds of content cost: one core reading each, beside the first stage alone (the shipped secret patterns and the malware
prefilter, as keywords) on the same bytes. The targets are ours: a check that costs several times more is to be seen here.

Corpora of 4 MiB: this project's own sources and documents, and what is made of a fixed seed. Pieces as inspectors read them.
"""

import base64
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence

from bench.inspection import CORPUS_BYTES, make_corpus
from bench.stats import Figure
from filters.inspection.finding import Direction
from filters.inspection.objects.judge import Judge
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import StreamInspector
from filters.inspection.toolbox import Toolbox
from filters.inspection.worker.memory import READ_MOST

Start = tuple[Direction, bytes]
_ASK: Start = (Direction.TO_SERVER, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
_MAIL_HEAD = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"


def measure(rounds: int) -> list[Figure]:
    """Scan in this process, without any network."""
    judge = Toolbox().judge(InspectionSpec())
    figures = []
    for name, target, starts, data in _kinds():
        read, bare = [], []
        for _ in range(rounds):
            bare.append(_first_stage(judge, data))
            read.append(speed(judge, starts, data, READ_MOST))
        baseline = "first stage alone, MB/s"
        figures.append(Figure(f"{name} / first stage", "x", read, baseline, bare, target, True, True))
    return figures


def exchange(media_type: bytes, size: int) -> tuple[Start, ...]:
    """Return what comes before a body of so many bytes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (media_type, size)
    return _ASK, (Direction.TO_CLIENT, head)


def speed(judge: Judge, starts: Sequence[Start], data: bytes, piece: int) -> float:
    """Return MB/s at which content is read behind what comes before it, in its last direction."""
    rules = judge.track(("10.0.0.2", 40000), ("10.0.0.3", 80))
    inspector = StreamInspector(judge.spec, judge.patterns, judge.limits, rules=rules)
    for direction, before in starts:
        inspector.feed(direction, before)
    begun = time.perf_counter()
    for at in range(0, len(data), piece):
        if cut := inspector.feed(starts[-1][0], data[at : at + piece]).cut:
            sys.exit(f"bench: the corpus is not clean: {cut}")
    taken = time.perf_counter() - begun
    inspector.close()
    return len(data) / taken / 1e6


def _first_stage(judge: Judge, data: bytes) -> float:
    watch = judge.patterns.watch(lambda _number, _end: None)
    begun = time.perf_counter()
    for at in range(0, len(data), READ_MOST):
        watch.scan(data[at : at + READ_MOST])
    taken = time.perf_counter() - begun
    watch.close()
    return len(data) / taken / 1e6


def _kinds() -> Iterator[tuple[str, float, tuple[Start, ...], bytes]]:
    """Yield name, target, what comes before, content."""
    draw, sources = random.Random(1), make_corpus()
    noise = draw.randbytes(CORPUS_BYTES)
    items = [{"name": f"Grüße {number}", "path": "a\\b\n", "size": draw.random()} for number in range(65_000)]
    escaped = json.dumps(items).encode()[:CORPUS_BYTES]
    attachment = base64.encodebytes(noise).replace(b"\n", b"\r\n")
    unknown: tuple[Start, ...] = ((Direction.TO_SERVER, b"\0\1"),)
    yield "sources as an unknown stream", 0.2, unknown, sources
    yield "noise as an unknown stream", 0.15, unknown, noise
    yield "sources as an HTTP body", 0.12, exchange(b"text/plain", len(sources)), sources
    yield "noise as an HTTP body", 0.12, exchange(b"application/octet-stream", len(noise)), noise
    yield "JSON, an escape every 15 bytes", 0.04, exchange(b"application/json", len(escaped)), escaped
    yield "mail with an attachment", 0.1, _mail(), _MAIL_HEAD + attachment


def _mail() -> tuple[Start, ...]:
    said = [(Direction.TO_CLIENT, b"220 h\r\n")]
    for asked, answered in (
        (b"EHLO c", b"250 h"),
        (b"MAIL FROM:<a@c>", b"250 ok"),
        (b"RCPT TO:<b@h>", b"250 ok"),
        (b"DATA", b"354 go on"),
    ):
        said += [(Direction.TO_SERVER, asked + b"\r\n"), (Direction.TO_CLIENT, answered + b"\r\n")]
    return (*said, (Direction.TO_SERVER, b"Subject: a\r\n"))
