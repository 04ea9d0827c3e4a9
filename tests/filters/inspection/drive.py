"""Drive a stream inspector as the gateway does: feed pieces, judge objects, forward what is released."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache

from filters.inspection.finding import Direction, Finding
from filters.inspection.limits import DEFAULT_LIMITS, Limits
from filters.inspection.spec import DETECTORS, InspectionSpec
from filters.inspection.stream import StreamInspector, Verdict
from filters.inspection.toolbox import Toolbox

UP, DOWN = Direction.TO_SERVER, Direction.TO_CLIENT
# put together here, so that no scanner of sources takes these files for malware
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
SECRET = b"AKIA" + b"QYLPMN5HIEXAMPLE"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SPEC = InspectionSpec(frozenset(DETECTORS))


@cache
def toolbox(limits: Limits = DEFAULT_LIMITS) -> Toolbox:
    return Toolbox(limits=limits)


@dataclass
class Driven:
    """A connection: what went in, what came out, and what ended it."""

    spec: InspectionSpec = SPEC
    limits: Limits = DEFAULT_LIMITS
    sent: list[bytearray] = field(default_factory=lambda: [bytearray(), bytearray()])
    out: list[bytearray] = field(default_factory=lambda: [bytearray(), bytearray()])
    findings: list[Finding] = field(default_factory=list)
    cut: Finding | None = None

    def __post_init__(self) -> None:
        self.judge = toolbox(self.limits).judge(self.spec)
        self.inspector = StreamInspector(self.spec, self.judge.patterns, self.limits)

    def feed(self, direction: Direction, data: bytes) -> "Driven":
        if self.cut is None:
            self.sent[direction] += data
            self.apply(self.inspector.feed(direction, data))
        return self

    def end(self, direction: Direction) -> "Driven":
        if self.cut is None:
            self.apply(self.inspector.end(direction))
        return self

    def pause(self, direction: Direction) -> "Driven":
        self.apply(self.inspector.pause(direction))
        return self

    def apply(self, verdict: Verdict) -> None:
        self.findings += verdict.findings
        self.cut = self.cut or verdict.cut
        if self.cut is None:
            for direction in Direction:
                self.out[direction] = self.sent[direction][: verdict.release[direction]]
        for job in verdict.jobs:
            if self.cut is None:
                found = self.judge.judge(
                    job.data, job.name, job.media_type, whole=job.whole, as_sent=job.as_sent
                )
                self.apply(self.inspector.judged(job.number, found))

    @property
    def checks(self) -> list[str]:
        return [one.check for one in self.findings]


def exchange(pieces: Iterable[tuple[Direction, bytes]], spec: InspectionSpec = SPEC, **limits: int) -> Driven:
    """Drive whole pieces, then end both directions."""
    driven = Driven(spec, replace(DEFAULT_LIMITS, **limits))  # type: ignore[arg-type]
    for direction, data in pieces:
        driven.feed(direction, data)
    for direction in Direction:
        driven.end(direction)
    return driven


def answer(body: bytes, *fields: bytes, status: bytes = b"HTTP/1.1 200 OK", length: bool = True) -> bytes:
    """A response with a body and its length."""
    lines = [status, *fields] + ([b"Content-Length: %d" % len(body)] if length else [])
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(body: bytes, size: int = 5) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"


def connected() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    one.setblocking(False)
    other.setblocking(False)
    return one, other
