"""Read DNS messages (RFC 1035), and what tunnels through them looks like."""

import math
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from filters.inspection.finding import Direction, LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.parser import Sink
from filters.reason import DropReason

_A, _NS, _CNAME, _SOA, _NULL, _PTR, _MX, _TXT = 1, 2, 5, 6, 10, 12, 15, 16
_NAMED = {_NS: 0, _CNAME: 0, _PTR: 0, _MX: 2}  # record type: bytes before the name in its data
TUNNEL_BYTES = 1024  # encoded-looking bytes in names below one domain, on one flow
TUNNEL_LABEL = 24
_HEADER: Final = struct.Struct(">2xHHHHH")
_RECORD: Final = struct.Struct(">H6xH")


class Message(NamedTuple):
    """A parsed message: question names, all names, and text records."""

    is_answer: bool
    questions: tuple[bytes, ...]
    names: tuple[bytes, ...]
    texts: tuple[bytes, ...]


def parse_message(data: bytes) -> Message:
    """Read one message; raises Refusal for what does not fit, bytes left over included."""
    if len(data) < 12:
        raise Refusal("dns-message", f"expected at least 12 bytes; got {len(data)}")
    flags, asked, *counts = _HEADER.unpack_from(data)
    at, questions, names, texts = 12, [], [], []
    for _ in range(asked):
        name, at = read_name(data, at)
        questions.append(name)
        at += 4
    for _ in range(sum(counts)):
        name, at = read_name(data, at)
        names.append(name)
        if at + 10 > len(data):
            raise Refusal("dns-message", "a record that is cut off")
        kind, length = _RECORD.unpack_from(data, at)
        at += 10
        if kind in _NAMED and length:
            inner, end = read_name(data, at + _NAMED[kind])
            names.append(inner)
            if end != at + length:
                raise Refusal("dns-message", "a record whose data is longer or shorter than its name")
        elif kind in {_TXT, _NULL}:
            texts.append(_text(data[at : at + length], kind))
        at += length
    if at != len(data):
        raise Refusal("dns-message", f"the message ends at byte {at}, its data at {len(data)}")
    return Message(bool(flags & 0x8000), tuple(questions), tuple(names), tuple(texts))


def read_name(data: bytes, at: int) -> tuple[bytes, int]:
    """Return a name and where it ends; pointers may only point back (RFC 1035 section 4.1.4)."""
    labels: list[bytes] = []
    end, lowest, total = 0, at, 0
    while at < len(data):
        length = data[at]
        if 0 < length <= 63:
            following = at + 1 + length
            if following > len(data):
                break
            labels.append(data[at + 1 : following])
            total += length + 1
            if total > 254:
                raise Refusal("dns-name", "a name longer than 255 bytes")
            at = following
        elif length == 0:
            return b".".join(labels), end or at + 1
        elif length >= 0xC0:
            target = int.from_bytes(data[at : at + 2], "big") & 0x3FFF
            end = end or at + 2
            if target >= lowest or at + 2 > len(data):
                raise Refusal("dns-name", "a pointer that does not point back")
            at = lowest = target
        else:
            raise Refusal("dns-name", f"a label of {length} bytes")
    raise Refusal("dns-name", "a name that is cut off")


def _text(data: bytes, kind: int) -> bytes:
    if kind == _NULL:
        return data
    strings, at = [], 0
    while at < len(data):
        strings.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    if at != len(data):
        raise Refusal("dns-message", "a text that is cut off")
    return b"".join(strings)


@dataclass(slots=True)
class TunnelWatch:
    """Add up what looks encoded in the names below each domain; raises Refusal when it is too much."""

    found: Counter[bytes] = field(default_factory=Counter)

    def see(self, name: bytes) -> None:
        """Count one name asked for."""
        labels = name.lower().split(b".")
        below = b".".join(labels[-2:])
        self.found[below] += sum(len(one) for one in labels[:-2] if looks_encoded(one))
        if self.found[below] > TUNNEL_BYTES:
            raise Refusal(
                "dns-tunnel",
                f"more than {TUNNEL_BYTES} encoded bytes in names below {below.decode('latin-1')}",
                DropReason.DATA_LEAK,
            )


def looks_encoded(label: bytes) -> bool:
    """Tell whether a label looks like data: long, and with more entropy than words have."""
    if len(label) < TUNNEL_LABEL:
        return False
    counts = Counter(label).values()
    entropy = -sum(one / len(label) * math.log2(one / len(label)) for one in counts)
    return entropy > 3.2 and (sum(chr(one).isdigit() for one in label) >= 2 or entropy > 3.8)


class DnsStream:
    """See Parser: DNS over TCP (RFC 7766)."""

    protocol = "dns"

    def __init__(self, sink: Sink, limits: Limits) -> None:
        self._sink, self._limits = sink, limits
        self._buffers = (bytearray(), bytearray())
        self._tunnel = TunnelWatch()

    def feed(self, direction: Direction, data: bytes) -> None:
        """See Parser."""
        buffer = self._buffers[direction]
        buffer += data
        while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
            size = int.from_bytes(buffer[:2], "big")
            message = parse_message(bytes(buffer[2 : 2 + size]))
            del buffer[: 2 + size]
            tell_message(self._sink, direction, message, self._tunnel)

    def end(self, direction: Direction) -> None:
        """See Parser."""
        if self._buffers[direction]:
            raise Refusal("dns-message", "the connection ended inside a message")

    def waiting(self, direction: Direction) -> int:
        """See Parser."""
        return len(self._buffers[direction])


def tell_message(sink: Sink, direction: Direction, message: Message, tunnel: TunnelWatch) -> None:
    """Tell a sink what a message says; raises Refusal where it looks like a tunnel."""
    if message.is_answer != (direction is Direction.TO_CLIENT):
        raise Refusal("dns-direction", "a question from the server, or an answer from the client")
    for name in message.questions:
        sink.note("dns", name=name.decode("latin-1"))
        if direction is Direction.TO_SERVER:
            tunnel.see(name)
    for text in (*message.questions, *message.names, *message.texts):
        sink.fresh(direction, "name")
        sink.text(direction, "name", text + b"\n")
    if not message.is_answer:
        sink.fields(direction, "dns", lambda: [("dns.query", name) for name in message.questions])
    if len(message.texts) > 100:
        raise LimitHit("records", 100, " text records in one message")
