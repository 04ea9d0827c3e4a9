"""Fuzz each protocol's parser alone, without engines behind it: what it tells must not depend on how bytes are cut."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from filters.inspection.coding.charset import FOREIGN, Recoded
from filters.inspection.coding.decoder import CODINGS, Stack
from filters.inspection.coding.json_text import JsonText
from filters.inspection.finding import Direction, LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.parser import Parser
from filters.inspection.protocols.dns import DnsStream
from filters.inspection.protocols.http.connection import HttpConnection
from filters.inspection.protocols.http.head import Fields
from filters.inspection.protocols.http.websocket import WebSocket
from filters.inspection.protocols.smtp import Smtp
from filters.inspection.protocols.ssh import Ssh
from filters.inspection.protocols.tls import Tls
from filters.inspection.suricata.addresses import Reader
from filters.inspection.suricata.compile import understand
from filters.inspection.suricata.model import Unsupported
from filters.inspection.suricata.parser import RuleError, read_rules
from tests.filters.inspection import drive, test_http, test_protocols

LIMITS = Limits(ratio_from=1 << 16)
TURN = b"\xff\xfe\xfd"  # where the other end speaks
Told = list[tuple[Direction, str, bytes]]


@dataclass
class Heard:
    """See Sink: keeps what was told, each channel's pieces joined."""

    told: Told = field(default_factory=list)
    open: dict[tuple[Direction, str], bytearray] = field(default_factory=lambda: defaultdict(bytearray))

    def text(self, direction: Direction, channel: str, data: bytes) -> None:
        self.open[direction, channel] += data

    def fresh(self, direction: Direction, channel: str) -> None:
        if said := self.open.pop((direction, channel), None):
            self.told.append((direction, channel, bytes(said)))

    def fields(
        self, direction: Direction, protocol: str, read: Callable[[], list[tuple[str, bytes]]]
    ) -> None:
        self.told += [(direction, f"{protocol} {name}", value) for name, value in read()]

    def begin_object(
        self, direction: Direction, name: str, media_type: str, *, only_files: bool = False
    ) -> None:
        self.told.append((direction, f"{name} {media_type}", b""))

    def object_data(self, direction: Direction, data: bytes) -> None:
        self.text(direction, "object", data)

    def coded(self, direction: Direction, level: int, coding: str, data: bytes, *, shown: bool) -> None:
        self.text(direction, f"as sent {level} {coding}", data)

    def end_object(self, direction: Direction) -> None:
        self.fresh(direction, "object")

    def partial_object(self, direction: Direction, detail: str) -> None:
        self.told.append((direction, detail, b""))

    def note(self, kind: str, **facts: str) -> None:
        self.told += [
            (Direction.TO_SERVER, f"{kind} {name}", value.encode()) for name, value in facts.items()
        ]

    def all(self) -> list[Told]:
        """Return what each direction heard, in its order: how the directions interleave depends on the pieces."""
        for direction, channel in list(self.open):
            self.fresh(direction, channel)
        return [sorted(one for one in self.told if one[0] is way) for way in Direction]


Open = Callable[[Heard], Parser]


def turns(data: bytes) -> Iterator[tuple[Direction, bytes]]:
    """Yield who says what; the first byte says who begins."""
    for turn, said in enumerate(data[1:].split(TURN)):
        yield Direction((turn + data[0]) % 2), said


def _listen(open_: Open, data: bytes, size: int) -> tuple[bool, list[Told]]:
    heard, fed = Heard(), [0, 0]
    parser = open_(heard)
    try:
        for way, said in turns(data):
            for at in range(0, len(said), size):
                piece = said[at : at + size]
                fed[way] += len(piece)
                parser.feed(way, piece)
                assert all(0 <= parser.waiting(one) <= fed[one] for one in Direction)
        for way in Direction:
            parser.end(way)
    except Refusal:
        return False, []
    return True, heard.all()


def check(open_: Open) -> Callable[[bytes], None]:
    """Return a target for one protocol's parser."""

    def one(data: bytes) -> None:
        if data:
            whole, pieces = _listen(open_, data, max(1, len(data))), _listen(open_, data, 5)
            assert whole == pieces, (whole, pieces)

    return one


def _websocket(heard: Heard) -> Parser:
    return WebSocket(heard, LIMITS, Fields(((b"sec-websocket-extensions", b"permessage-deflate"),)))


PARSERS: dict[str, Open] = {
    "http": lambda heard: HttpConnection(heard, LIMITS),
    "smtp": lambda heard: Smtp(heard, LIMITS),
    "tls": lambda heard: Tls(heard, LIMITS),
    "ssh": lambda heard: Ssh(heard, LIMITS),
    "dns-stream": lambda heard: DnsStream(heard, LIMITS),
    "websocket": _websocket,
}


def examples(name: str) -> list[bytes]:
    """Return well-formed conversations of a protocol."""
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"
    hello = test_protocols.client_hello()
    match name:
        case "http":
            return [
                *_http(),
                b"\0POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                + TURN
                + b"HTTP/1.1 204 X\r\n\r\n",
            ]
        case "smtp":
            return [_story(test_protocols.smtp(b"Subject: x\r\n\r\ntext\r\n"))]
        case "tls":
            return [b"\0" + hello]
        case "ssh":
            return [b"\0SSH-2.0-x\r\n" + TURN + b"SSH-2.0-y z\r\n"]
        case "dns-stream":
            return [b"\0" + test_protocols.dns_tcp(query)]
        case _:
            return [
                b"\0\x81\x83\1\2\3\4"
                + bytes((ord("a") ^ 1, ord("b") ^ 2, ord("c") ^ 3))
                + TURN
                + b"\x81\3abc\x88\0",
                b"\1\x01\2ab\x80\1c",
            ]


def _http() -> list[bytes]:
    bodies = [drive.answer(drive.chunked(b"hello"), b"Transfer-Encoding: chunked", length=False)]
    bodies += [
        drive.answer(test_http.CODERS[one](b"text"), b"Content-Encoding: " + one.encode())
        for one in test_http.CODERS
    ]
    return [b"\0" + drive.GET + TURN + one for one in bodies]


def _story(said: list[tuple[Direction, bytes]]) -> bytes:
    out, last = bytes([said[0][0]]) + said[0][1], said[0][0]
    for way, data in said[1:]:
        out, last = out + (TURN if way is not last else b"") + data, way
    return out


def coding(data: bytes) -> None:
    """A coding gives the same in pieces as in one, or is too much; the first byte chooses it."""
    if not data:
        return
    name = list(CODINGS)[data[0] % len(CODINGS)]
    with contextlib.suppress(LimitHit):  # of what came in so far: that depends on the pieces
        whole, pieces = _decode(name, data[1:], len(data)), _decode(name, data[1:], 3)
        if whole or pieces:  # libzstd refuses some empty blocks in pieces only
            assert whole == pieces, (name, len(whole or b""), len(pieces or b""))


def _decode(name: str, data: bytes, size: int) -> bytes | None:
    stack, out = Stack([name], LIMITS), b""
    try:
        for at in range(0, len(data), size):
            out += b"".join(stack.feed(data[at : at + size]))
        stack.finish()
    except LimitHit:
        raise
    except Refusal:
        return None
    return out


def coded() -> list[bytes]:
    names = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate", "br": "br", "zstd": "zstd"}
    return [
        bytes([at]) + test_http.CODERS[names[one]](b"some text, some text") for at, one in enumerate(CODINGS)
    ]


def charset(data: bytes) -> None:
    """A text gives the same in pieces as in one; the first byte chooses its set."""
    if not data:
        return
    name, size = sorted(FOREIGN)[data[0] % len(FOREIGN)], 1 + len(data) % 3
    one, two = Recoded(name), Recoded(name)
    pieces = b"".join(two.feed(data[at : at + size]) for at in range(1, len(data), size)) + two.finish()
    assert one.feed(data[1:]) + one.finish() == pieces, name


def json_text(data: bytes) -> None:
    """JSON's escapes give the same in pieces as in one."""
    size = 1 + len(data) % 5
    one, two = JsonText(), JsonText()
    pieces = b"".join(two.feed(data[at : at + size]) for at in range(0, len(data), size)) + two.finish()
    assert one.feed(data) + one.finish() == pieces


def texts() -> list[bytes]:
    return [bytes([at]) + "some text 机密".encode(name, "replace") for at, name in enumerate(sorted(FOREIGN))]


def rule_lines(data: bytes) -> None:
    """Any text is rules, or errors with places; nothing is compiled for the engine."""
    reader = Reader({}, set())
    for number, raw in enumerate(read_rules(data.decode("utf-8", "surrogateescape"))):
        if isinstance(raw, RuleError):
            assert raw.line >= 1
            assert raw.column >= 1
            continue
        try:
            understand(raw, number, reader)
        except (RuleError, Unsupported) as why:
            assert str(why)
