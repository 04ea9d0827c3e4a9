"""The bytes of docs/protocol.md: fields, frames, keys, records, labels, trees. Written from that document alone."""

import hashlib
import hmac
import socket
import struct
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

ENROLL_HELLO, ENROLL_CHALLENGE, ENROLL_PROOF, ENROLL_RESULT = 1, 2, 3, 4
M1, M2, M3, M4, ALERT, REFERENCES, RECORD = 16, 17, 18, 19, 20, 21, 32
BEACON, ANSWER, REQUEST, CHALLENGE, PROOF, RESULT, OFFER, CLOSED, QUERY, REPORT, REFUSED = range(1, 12)
# n number, h 32 bytes, b blob, t text, f flag, q quote, p batch proof or nothing
LAYOUT = {
    BEACON: "nhnhp", ANSWER: "nqhb", REQUEST: "ntt", CHALLENGE: "nhttt", PROOF: "nqb", RESULT: "nftttnt",
    OFFER: "tttt", CLOSED: "tt", QUERY: "ntnn", REPORT: "ntntf", REFUSED: "tt",
}  # fmt: skip
Quote = tuple[bytes, bytes]


class Refused(Exception):
    """The other end sent an alert; the text is its code."""


class HungUp(Exception):
    """The other end closed the connection."""


class Foul(Exception):
    """What came is not what the protocol says; the text is the code of docs/reasons.md."""


def u8(value: int) -> bytes:
    return struct.pack(">B", value)


def u16(value: int) -> bytes:
    return struct.pack(">H", value)


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


def blob(value: bytes) -> bytes:
    return u32(len(value)) + value


def text(value: str) -> bytes:
    return blob(value.encode())


class Reader:
    """Read fields front to back; whatever does not fit is `malformed-message`."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        if len(part) != size:
            raise Foul("malformed-message")
        self.at += size
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def blob(self, exactly: int | None = None) -> bytes:
        size = self.number(4)
        if exactly is not None and size != exactly:
            raise Foul("malformed-message")
        return self.take(size)

    def text(self) -> str:
        return self.blob().decode()

    def quote(self) -> Quote:
        return self.blob(), self.blob()

    def end(self) -> None:
        if self.at != len(self.data):
            raise Foul("malformed-message")


class Batch:
    """A quote over a tree, and the path of one leaf."""

    def __init__(self, reader: Reader) -> None:
        start = reader.at
        self.quote, self.index, self.size = reader.quote(), reader.number(4), reader.number(4)
        self.path = [reader.blob(32) for _ in range(reader.number(1))]
        self.encoded = reader.data[start : reader.at]

    def root(self, leaf: bytes) -> bytes:
        """RFC 9162, 2.1.3.2."""
        if not 0 <= self.index < self.size <= 1024:
            raise Foul("wrong-batch-proof")
        position, last, current = self.index, self.size - 1, H(b"\0" + leaf)
        for node in self.path:
            if last == 0:
                raise Foul("wrong-batch-proof")
            if position % 2 or position == last:
                current = H(b"\1" + node + current)
                while position % 2 == 0 and position:
                    position, last = position >> 1, last >> 1
            else:
                current = H(b"\1" + current + node)
            position, last = position >> 1, last >> 1
        if last:
            raise Foul("wrong-batch-proof")
        return current


def encode_batch(quote: Quote, index: int, size: int, path: Sequence[bytes]) -> bytes:
    return (
        blob(quote[0]) + blob(quote[1]) + u32(index) + u32(size) + u8(len(path)) + b"".join(map(blob, path))
    )


def H(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def D(*parts: bytes) -> bytes:
    return H(b"".join(map(blob, parts)))


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def X(secret: bytes, label: str, context: bytes = b"", size: int = 32) -> bytes:
    """HKDF-Expand of at most one block: no output of the protocol is longer."""
    return mac(secret, u16(size) + text("quotegate/1 " + label) + blob(context) + b"\1")[:size]


def label(name: str, fields: bytes) -> bytes:
    return H(text("quotegate/1 " + name) + fields)


class Records:
    """One direction."""

    def __init__(self, secret: bytes) -> None:
        self.secret, self.count = secret, 0
        self._load()

    def _load(self) -> None:
        self.aead = ChaCha20Poly1305(X(self.secret, "key"))
        self.iv = int.from_bytes(X(self.secret, "iv", b"", 12), "big")

    def _nonce(self) -> bytes:
        if self.count == 1 << 20:
            self.secret, self.count = X(self.secret, "rekey"), 0
            self._load()
        self.count += 1
        return (self.iv ^ (self.count - 1)).to_bytes(12, "big")

    def seal(self, plain: bytes) -> bytes:
        return self.aead.encrypt(self._nonce(), plain, None)

    def open(self, record: bytes) -> bytes:
        return self.aead.decrypt(self._nonce(), record, None)


class Wire:
    """Frames on a TCP connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.buffer, self.heard = sock, b"", False

    @classmethod
    def connect(cls, ip: str, port: int, timeout: float = 6.0) -> "Wire":
        return cls(socket.create_connection((ip, port), timeout=timeout))

    def send(self, kind: int, body: bytes) -> None:
        try:
            self.sock.sendall(u32(len(body)) + u8(kind) + body)
        except OSError as error:
            raise HungUp from error

    def receive(self, *wanted: int) -> tuple[int, bytes]:
        while len(self.buffer) < 5 or len(self.buffer) < 5 + int.from_bytes(self.buffer[:4], "big"):
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionError as error:
                raise HungUp from error
            if not data:
                raise HungUp
            self.buffer, self.heard = self.buffer + data, True
        end, kind = 5 + int.from_bytes(self.buffer[:4], "big"), self.buffer[4]
        body, self.buffer = self.buffer[5:end], self.buffer[end:]
        if kind == ALERT:
            raise Refused(body.decode("ascii", "replace"))
        if wanted and kind not in wanted:
            raise Foul("malformed-message")
        return kind, body

    def close(self) -> None:
        self.sock.close()


def encode_message(code: int, *fields: object) -> bytes:
    """Encode what a peer sends."""
    writers = {
        "n": u64, "h": blob, "b": blob, "t": text, "f": u8, "q": lambda quote: blob(quote[0]) + blob(quote[1]),
    }  # fmt: skip
    return u8(code) + b"".join(writers[kind](field) for kind, field in zip(LAYOUT[code], fields, strict=True))


def decode_message(plain: bytes) -> tuple[int, list[object]]:
    """Decode what a peer receives: the code and the fields."""
    reader = Reader(plain)
    readers = {
        "n": lambda: reader.number(8), "h": lambda: reader.blob(32), "b": reader.blob, "t": reader.text,
        "f": lambda: reader.number(1), "q": reader.quote,
        "p": lambda: Batch(reader) if reader.number(1) else None,
    }  # fmt: skip
    code = reader.number(1)
    fields = [readers[kind]() for kind in LAYOUT.get(code, "")]
    reader.end()
    return code, fields
