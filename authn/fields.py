"""Encode and decode the protocol's fields and frames (docs/protocol.md, "Encoding").

Numbers are big-endian; byte strings carry a 4-byte length. Reading is bounds-checked: what is too
short, too long or followed by more raises AttestationError `malformed-message`.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from authn.cursor import Cursor
from authn.errors import AttestationError
from authn.failure import AttestationFailure


def malformed(what: str) -> AttestationError:
    """Build the error for bytes that are not what the protocol says."""
    return AttestationError(AttestationFailure.MALFORMED_MESSAGE, what)


class Writer:
    """Collect fields into one byte string."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def u8(self, value: int) -> "Writer":
        """Append one byte."""
        return self._number(">B", value)

    def u16(self, value: int) -> "Writer":
        """Append two bytes."""
        return self._number(">H", value)

    def u32(self, value: int) -> "Writer":
        """Append four bytes."""
        return self._number(">I", value)

    def u64(self, value: int) -> "Writer":
        """Append eight bytes."""
        return self._number(">Q", value)

    def blob(self, value: bytes) -> "Writer":
        """Append a length (4 bytes) and the bytes."""
        self._parts += (struct.pack(">I", len(value)), value)
        return self

    def text(self, value: str) -> "Writer":
        """Append UTF-8 text as a byte string."""
        return self.blob(value.encode())

    def raw(self, value: bytes) -> "Writer":
        """Append bytes of a length that both ends know."""
        self._parts.append(value)
        return self

    def finish(self) -> bytes:
        """Return everything appended so far."""
        return b"".join(self._parts)

    def _number(self, layout: str, value: int) -> "Writer":
        self._parts.append(struct.pack(layout, value))
        return self


class Reader(Cursor):
    """Read a message's fields."""

    def __init__(self, untrusted_data: bytes) -> None:
        super().__init__(
            untrusted_data, "big", lambda _, missing: malformed(f"the message ends {missing} bytes too early")
        )

    def u8(self) -> int:
        """Read one byte."""
        return self.number(1)

    def u16(self) -> int:
        """Read two bytes."""
        return self.number(2)

    def u32(self) -> int:
        """Read four bytes."""
        return self.number(4)

    def u64(self) -> int:
        """Read eight bytes."""
        return self.number(8)

    def blob(self, exactly: int | None = None, at_most: int | None = None) -> bytes:
        """Read a byte string, of exactly or at most that many bytes."""
        length = self.u32()
        if exactly is not None and length != exactly:
            raise malformed(f"a field has {length} bytes, expected {exactly}")
        if at_most is not None and length > at_most:
            raise malformed(f"a field has {length} bytes, at most {at_most} are allowed")
        return self.take(length)

    def text(self, at_most: int = 256) -> str:
        """Read UTF-8 text."""
        try:
            return self.blob(at_most=at_most).decode()
        except UnicodeDecodeError:
            raise malformed("a text field is not UTF-8") from None

    def peer_id(self, at_most: int = 256) -> str:
        """Read `platform/peer`: two printable words, so that no log or terminal is written to with it."""
        peer_id = self.text(at_most)
        platform, _, name = peer_id.partition("/")
        if not platform or not name or "/" in name or " " in peer_id or not peer_id.isprintable():
            raise malformed("a peer id is not platform/name, two printable words")
        return peer_id

    def finish(self) -> None:
        """Refuse bytes that are left over."""
        if self.left:
            raise malformed(f"{self.left} bytes follow the message")


class FrameType(IntEnum):
    """What a frame carries."""

    ENROLL_HELLO = 1
    ENROLL_CHALLENGE = 2
    ENROLL_PROOF = 3
    ENROLL_RESULT = 4
    M1 = 16
    M2 = 17
    M3 = 18
    M4 = 19
    ALERT = 20
    REFERENCES = 21
    RECORD = 32


KIB = 1024
MAX_BODY = {
    FrameType.ENROLL_HELLO: 16 * KIB,
    FrameType.ENROLL_CHALLENGE: 4 * KIB,
    FrameType.ENROLL_PROOF: 4 * KIB,
    FrameType.ENROLL_RESULT: 4 * KIB,
    FrameType.M1: 4 * KIB,
    # m2 carries the gateway's event log beside the 4 KiB of its own fields
    FrameType.M2: 8 * KIB * KIB,
    FrameType.M3: 8 * KIB * KIB,
    FrameType.M4: 16 * KIB,
    FrameType.ALERT: 256,
    FrameType.REFERENCES: 64 * KIB,
    FrameType.RECORD: 1 * KIB * KIB,
}
HEADER = struct.Struct(">IB")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came."""

    type: FrameType
    body: bytes


def encode_frame(kind: FrameType, body: bytes) -> bytes:
    """Frame a body: length (4 bytes, of the body), type (1 byte), body."""
    return HEADER.pack(len(body), kind) + body


class FrameReader:
    """Cut a byte stream into frames; refuses unknown types and bodies over their limit at once."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take what came and return the frames that are complete; raises AttestationError."""
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= HEADER.size:
            length, kind = _check_header(*HEADER.unpack_from(self._buffer))
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            frames.append(Frame(kind, bytes(self._buffer[HEADER.size : end])))
            del self._buffer[:end]
        return frames


def _check_header(length: int, kind: int) -> tuple[int, FrameType]:
    try:
        frame_type = FrameType(kind)
    except ValueError:
        raise malformed(f"frame type {kind} is unknown") from None
    if length > MAX_BODY[frame_type]:
        raise malformed(
            f"a {frame_type.name} frame of {length} bytes came, at most {MAX_BODY[frame_type]} are taken"
        )
    return length, frame_type
