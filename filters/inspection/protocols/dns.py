"""Read DNS messages (RFC 1035)."""

import re
import struct
from typing import Final, NamedTuple

from filters.inspection.finding import Direction, LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.parser import Sink
from filters.inspection.protocols.dns_tunnel import TunnelWatch

_NULL: Final = 10
_RRSIG: Final = 46
_NSEC3: Final = 50
_HASH: Final = re.compile(
    rb"[0-9A-Va-v]{32}(?:\.|\Z)"
)  # SHA-1 in base32, the one hash there is (RFC 5155 section 3.3)
_SRV: Final = 33
_NETBIOS: Final = re.compile(rb"[A-P]{32}(?:\.|\Z)")  # RFC 1001 section 14.1
# record types whose data is a name: bytes before it (NS, CNAME, PTR, MX, AFSDB, RT, SRV, KX, DNAME)
_NAMED: Final = {2: 0, 5: 0, 12: 0, 15: 2, 18: 2, 21: 2, 33: 6, 36: 2, 39: 0}
# those whose data is strings (HINFO, TXT, X25, ISDN, NINFO, SPF, AVC, RESINFO, WALLET)
_STRINGS: Final = frozenset({13, 16, 19, 20, 56, 99, 258, 261, 262})
# of all names in one message: a whole message of a zone transfer may have 100,000
LABELS: Final = 1 << 17
_HEADER: Final = struct.Struct(">2xHHHHH")
_RECORD: Final = struct.Struct(">H6xH")


class Message(NamedTuple):
    """A parsed message: question names, all other names, each once, and text records.

    hashes: those of the other names that only own NSEC3 records and their signatures: no name, but its hash
    (RFC 5155 section 1.3). Answers about a zone have as many of them as the zone has names.
    """

    is_answer: bool
    questions: tuple[bytes, ...]
    names: tuple[bytes, ...]
    texts: tuple[bytes, ...]
    hashes: frozenset[bytes] = frozenset()

    @property
    def chosen(self) -> tuple[bytes, ...]:
        """Return the names that somebody chose."""
        names = (*self.questions, *self.names)
        return tuple(one for one in names if one not in self.hashes) if self.hashes else names


def parse_message(data: bytes) -> Message:
    """Read one message; raises Refusal for what does not fit, bytes left over included."""
    if len(data) < 12:
        raise Refusal("dns-message", f"expected at least 12 bytes; got {len(data)}")
    flags, asked, *counts = _HEADER.unpack_from(data)
    at, questions, names, texts, labels = 12, [], dict[bytes, bool](), [], 0
    for _ in range(asked):
        name, at = read_name(data, at)
        questions.append(name)
        labels = _count(labels, name)
        at += 4
    for _ in range(sum(counts)):
        name, at = read_name(data, at)
        labels = _count(labels, name)
        if at + 10 > len(data):
            raise Refusal("dns-message", "a record that is cut off")
        kind, length = _RECORD.unpack_from(data, at)
        at += 10
        owns_hash = kind == _NSEC3 or (kind == _RRSIG and data[at : at + 2] == _NSEC3.to_bytes(2, "big"))
        is_hash = bool(owns_hash and flags & 0x8000 and _HASH.match(name))
        names[name] = names.get(name, True) and is_hash
        if kind in _NAMED and length and not (kind == _SRV and _is_status(name, data, at, length)):
            inner, end = read_name(data, at + _NAMED[kind])
            names[inner] = False
            labels = _count(labels, inner)
            if end != at + length:
                raise Refusal("dns-message", "a record whose data is longer or shorter than its name")
        elif kind == _NULL or kind in _STRINGS:
            texts.append(_text(data[at : at + length], kind))
        at += length
    if at != len(data):
        raise Refusal("dns-message", f"the message ends at byte {at}, its data at {len(data)}")
    hashes = frozenset(name for name, is_hash in names.items() if is_hash and name not in questions)
    return Message(bool(flags & 0x8000), tuple(questions), tuple(names), tuple(texts), hashes)


def _is_status(owner: bytes, data: bytes, at: int, length: int) -> bool:
    """Tell whether SRV's number means what a machine says of itself in NetBIOS: what does not read as SRV (RFC 1002, 4.2.18)."""
    if not _NETBIOS.match(owner):
        return False
    try:
        return read_name(data, at + _NAMED[_SRV])[1] != at + length
    except Refusal:
        return True


def _count(labels: int, name: bytes) -> int:
    """Add a name's labels: compressed, each name of a message may be long for two bytes."""
    labels += name.count(b".") + 1
    if labels > LABELS:
        raise LimitHit("labels", LABELS, " labels in the names of one message")
    return labels


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
            raw = bytes(buffer[2 : 2 + size])
            message = parse_message(raw)
            del buffer[: 2 + size]
            # as it is, too: data of the types that are not read, and of none
            self._sink.text(direction, "message", raw)
            self._sink.fresh(direction, "message")
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
    for name in message.chosen:
        tunnel.see(name)
    sink.fresh(direction, "name")
    sink.text(direction, "name", b"\n".join((*message.questions, *message.names, *message.texts, b"")))
    if not message.is_answer:
        sink.fields(direction, "dns", lambda: [("dns.query", name) for name in message.questions])
    if len(message.texts) > 100:
        raise LimitHit("records", 100, " text records in one message")
