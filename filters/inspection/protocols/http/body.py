"""Take a body apart as its framing says: the bytes of the content, and where it ends."""

import re
from collections.abc import Iterator

from filters.inspection.finding import LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.protocols.http.framing import Extent, Framing
from filters.inspection.protocols.http.head import Fields, cut_head, parse_fields

_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
    rb"(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|\"[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]*\"))?)*)"
)
_CHUNK_BEGIN = re.compile(rb"[0-9A-Fa-f]{1,16}(;|\r?\Z)")
_LONGEST_CHUNK = (1 << 31) - 1  # bytes: from here on some receivers count wrong, and nobody sends such chunks
_IN_TRAILER = {
    b"transfer-encoding",
    b"content-length",
    b"content-encoding",
    b"host",
    b"content-type",
    b"content-range",
}


class Body:
    """The body of one message. Feed what is there; it takes what is its own and leaves the rest."""

    def __init__(self, framing: Framing, limits: Limits) -> None:
        self._framing, self._limits = framing, limits
        self._left = framing.length
        self._stage = "size"  # of a chunked body: size, data, end, trailer
        self.trailer: Fields | None = None
        self.extensions = bytearray()  # of chunks, a line each; whoever reads them empties it
        self._seen = 0  # bytes of an incomplete trailer
        self.done = framing.extent is Extent.NONE

    def take(self, buffer: bytearray) -> Iterator[bytes]:
        """Remove from `buffer` what belongs to the body and yield the content in it; raises Refusal."""
        if self.done or not buffer:
            return
        match self._framing.extent:
            case Extent.LENGTH:
                yield from self._counted(buffer)
                self.done = not self._left
            case Extent.CHUNKED:
                yield from self._chunks(buffer)
            case _:
                yield bytes(buffer)
                buffer.clear()

    def end(self) -> None:
        """Say that the sender closed; raises Refusal when the body is not complete."""
        if self._framing.extent is Extent.CLOSE:
            self.done = True
        if not self.done:
            raise Refusal("http-body-incomplete", "the connection ended inside a body")

    def _counted(self, buffer: bytearray) -> Iterator[bytes]:
        with memoryview(buffer) as view:
            piece = view[: self._left].tobytes()  # copied once
        del buffer[: self._left]
        self._left -= len(piece)
        if piece:
            yield piece

    def _chunks(self, buffer: bytearray) -> Iterator[bytes]:
        while not self.done:
            before = len(buffer), self._stage
            if self._stage == "size":
                self._size(buffer)
            elif self._stage == "data":
                yield from self._counted(buffer)
                self._stage = "data" if self._left else "end"
            elif self._stage == "end":
                self._chunk_end(buffer)
            else:
                self._trailer(buffer)
            if before == (len(buffer), self._stage):
                return

    def _size(self, buffer: bytearray) -> None:
        end = buffer.find(b"\r\n")
        line = bytes(buffer if end < 0 else buffer[:end])
        # what can't become right any more is refused at once
        if b"\n" in line or b"\r" in line[:-1] or (line and not _CHUNK_BEGIN.match(line)):
            raise _bad_chunk(line)
        if len(line) > self._limits.chunk_line:
            raise LimitHit("chunk_line", self._limits.chunk_line, " bytes in a chunk's line")
        if end < 0:
            return
        match = _CHUNK_LINE.fullmatch(line)
        if not match:
            raise _bad_chunk(line)
        del buffer[: end + 2]
        self._left = int(match[1], 16)
        if self._left > _LONGEST_CHUNK:
            raise Refusal("http-chunk-size", f"a chunk of more than {_LONGEST_CHUNK} bytes: {line[:40]!r}")
        if match[2]:
            self.extensions += match[2] + b"\n"
        self._stage = "data" if self._left else "trailer"

    def _chunk_end(self, buffer: bytearray) -> None:
        if not b"\r\n".startswith(buffer[:2]):
            raise Refusal("http-chunk-end", f"expected CRLF after a chunk; got {bytes(buffer[:2])!r}")
        if len(buffer) >= 2:
            del buffer[:2]
            self._stage = "size"

    def _trailer(self, buffer: bytearray) -> None:
        if buffer[:2] == b"\r\n":
            del buffer[:2]
            self.trailer = Fields(())
            self.done = True
        elif not (end := cut_head(buffer, self._limits, self._seen)):
            self._seen = len(buffer)
        else:
            self.trailer = parse_fields(bytes(buffer[: end - 4]).split(b"\r\n"), self._limits)
            if forbidden := _IN_TRAILER & {name for name, _ in self.trailer.pairs}:
                raise Refusal("http-trailer", f"{forbidden.pop().decode()} has no place in a trailer")
            del buffer[:end]
            self.done = True


def _bad_chunk(line: bytes) -> Refusal:
    return Refusal("http-chunk-size", f"expected hexadecimal digits and CRLF; got {line[:40]!r}")
