"""Read the hellos of TLS (RFC 8446, RFC 5246); what follows is ciphertext and passes in whole records."""

import hashlib
from collections.abc import Iterator

from filters.inspection.finding import Direction, LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.parser import Sink

_HANDSHAKE, _ALERT = 22, 21
_LONGEST_RECORD = (1 << 14) + 2048
_SNI, _ALPN, _SIGNATURES, _VERSIONS = 0, 16, 13, 43
_NAMES = {0x0304: "1.3", 0x0303: "1.2", 0x0302: "1.1", 0x0301: "1.0", 0x0300: "ssl3"}


class Tls:
    """See Parser."""

    protocol = "tls"

    def __init__(self, sink: Sink, limits: Limits) -> None:
        self._sink, self._limits = sink, limits
        self._buffers = (bytearray(), bytearray())
        self._hello = [bytearray(), bytearray()]
        self._known = [False, False]
        self._left = [0, 0]  # bytes of the current record still to pass
        self._passed = (
            bytearray()
        )  # what the latest piece says: a look at each of many tiny records costs too much

    def feed(self, direction: Direction, data: bytes) -> None:
        """See Parser."""
        buffer = self._buffers[direction]
        buffer += data
        try:
            self._records(direction)
        finally:
            if self._passed:
                self._sink.text(direction, "stream", bytes(self._passed))  # it need not be ciphertext
                self._passed.clear()

    def end(self, direction: Direction) -> None:
        """See Parser."""

    def waiting(self, direction: Direction) -> int:
        """See Parser."""
        return len(self._buffers[direction])

    def _records(self, direction: Direction) -> None:
        buffer = self._buffers[direction]
        while buffer:
            if self._left[direction]:
                passed = buffer[: self._left[direction]]
                del buffer[: len(passed)]
                self._left[direction] -= len(passed)
                self._passed += passed
            elif not self._record(direction, buffer):
                return

    def _record(self, direction: Direction, buffer: bytearray) -> bool:
        if len(buffer) < 5:
            return False
        kind, version, length = buffer[0], buffer[1], int.from_bytes(buffer[3:5], "big")
        if not 20 <= kind <= 24 or version != 3 or length > _LONGEST_RECORD:
            raise Refusal("tls-record", f"no TLS record: {bytes(buffer[:5]).hex()}")
        if kind == _ALERT or (self._known[direction] and not self._says_again(direction, kind, buffer)):
            del buffer[:5]
            self._left[direction] = length
            return True
        if kind != _HANDSHAKE:
            raise Refusal("tls-order", f"a record of type {kind} before the hello")
        if len(buffer) < 5 + length:
            return False
        record = bytes(buffer[5 : 5 + length])
        del buffer[: 5 + length]
        self._passed += record  # extensions that are not read, and what follows the hello
        self._hello[direction] += record
        self._try_hello(direction)
        return True

    def _says_again(self, direction: Direction, kind: int, buffer: bytearray) -> bool:
        """Tell whether a record may be of another hello: asked to try again (RFC 8446, 4.1.4), a client says the name anew.

        What is encrypted begins so too, now and then: then nothing that follows makes a hello of it.
        """
        hello = self._hello[direction]
        if direction is Direction.TO_CLIENT or kind != _HANDSHAKE:
            hello.clear()
            return False
        return bool(hello) or buffer[5:6] == b"\1" or (len(buffer) == 5 and buffer[3:] != b"\0\0")

    def _try_hello(self, direction: Direction) -> None:
        hello = self._hello[direction]
        wanted = 2 if direction is Direction.TO_CLIENT else 1
        if not self._known[direction]:
            if len(hello) > self._limits.head:
                raise LimitHit("head", self._limits.head, " bytes in a hello")
            if hello and hello[0] != wanted:
                raise Refusal("tls-order", f"expected handshake message {wanted}; got {hello[0]}")
        while len(hello) >= 4 and len(hello) >= (end := 4 + int.from_bytes(hello[1:4], "big")):
            body = _Bytes(bytes(hello[4:end]))
            del hello[:end]
            if direction is Direction.TO_SERVER:
                self._client_hello(body)
            else:
                self._server_hello(body)
            self._known[direction] = True
            if direction is Direction.TO_CLIENT or hello[:1] != b"\1":
                hello.clear()
        if self._known[direction] and len(hello) >= 4 and hello[1:4] > self._limits.head.to_bytes(3, "big"):
            hello.clear()

    def _client_hello(self, body: "_Bytes") -> None:
        version = body.number(2)
        body.take(32)
        body.vector(1)
        ciphers = [int.from_bytes(one, "big") for one in _pairs(body.vector(2))]
        body.vector(1)
        extensions = _extensions(body)
        versions = [int.from_bytes(one, "big") for one in _pairs(extensions.get(_VERSIONS, b"\0")[1:])]
        best = max([one for one in versions if one in _NAMES] or [version])
        highest = max([one for one in versions if not _grease(one)] or [version])
        name, protocols = _server_name(extensions), _protocols(extensions)
        self._sink.text(Direction.TO_SERVER, "sni", name + b"\n")
        self._sink.fields(
            Direction.TO_SERVER,
            "tls",
            lambda: [*([("tls.sni", name)] if name else []), *(("tls.alpn", one) for one in protocols)],
        )
        self._sink.note(
            "tls-client",
            version=_NAMES.get(best, hex(best)),
            sni=name.decode("latin-1"),
            alpn=",".join(one.decode("latin-1") for one in protocols),
            ja4=ja4(highest, ciphers, extensions, protocols),
        )

    def _server_hello(self, body: "_Bytes") -> None:
        version = body.number(2)
        body.take(32)
        body.vector(1)
        cipher = body.number(2)
        body.take(1)
        extensions = _extensions(body)
        if _VERSIONS in extensions:
            version = int.from_bytes(extensions[_VERSIONS], "big")
        self._sink.note("tls-server", version=_NAMES.get(version, hex(version)), cipher=f"{cipher:04x}")


class _Bytes:
    """Read front to back; what does not fit is refused."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        if len(part) != size:
            raise Refusal("tls-hello", "a hello that is shorter than it says")
        self.at += size
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))

    @property
    def rest(self) -> int:
        return len(self.data) - self.at


def _extensions(body: _Bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    if body.rest:
        inner = _Bytes(body.vector(2))
        while inner.rest:
            kind = inner.number(2)
            if kind in found:
                raise Refusal("tls-hello", f"extension {kind} stands twice")
            found[kind] = inner.vector(2)
    if body.rest:
        raise Refusal("tls-hello", f"{body.rest} bytes after the hello's extensions")
    return found


def _pairs(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 2] for at in range(0, len(data) - 1, 2))


def _server_name(extensions: dict[int, bytes]) -> bytes:
    if not extensions.get(_SNI):
        return b""
    names = _Bytes(_Bytes(extensions[_SNI]).vector(2))
    kind, name = names.number(1), names.vector(2)
    if kind or names.rest:
        raise Refusal("tls-hello", "more than one server name")
    return name


def _protocols(extensions: dict[int, bytes]) -> list[bytes]:
    if _ALPN not in extensions:
        return []
    names, found = _Bytes(_Bytes(extensions[_ALPN]).vector(2)), []
    while names.rest:
        found.append(names.vector(1))
    return found


def ja4(version: int, ciphers: list[int], extensions: dict[int, bytes], protocols: list[bytes]) -> str:
    """Return the JA4 fingerprint of a client's hello over TCP (FoxIO, JA4 technical details)."""
    ciphers = [one for one in ciphers if not _grease(one)]
    kinds = [one for one in extensions if not _grease(one)]
    first = protocols[0].decode("latin-1") if protocols and protocols[0] else "00"
    if not (first[0].isascii() and first[0].isalnum() and first[-1].isascii() and first[-1].isalnum()):
        first = first.encode("latin-1").hex()
    names = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3"}
    head = f"t{names.get(version, '00')}{'d' if _SNI in extensions else 'i'}{min(len(ciphers), 99):02}{min(len(kinds), 99):02}{first[0]}{first[-1]}"
    listed_signatures = (int.from_bytes(one, "big") for one in _pairs(extensions.get(_SIGNATURES, b"")[2:]))
    signatures = [f"{one:04x}" for one in listed_signatures if not _grease(one)]
    listed = ",".join(f"{one:04x}" for one in sorted(kinds) if one not in {_SNI, _ALPN})
    tail = listed + ("_" + ",".join(signatures) if signatures else "")
    return f"{head}_{_short(','.join(f'{one:04x}' for one in sorted(ciphers)))}_{_short(tail)}"


def _grease(value: int) -> bool:
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12
