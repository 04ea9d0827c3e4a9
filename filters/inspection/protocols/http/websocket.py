"""Read WebSocket frames (RFC 6455), with permessage-deflate (RFC 7692): what they carry is inspected unmasked."""

import zlib
from dataclasses import dataclass, field

from filters.inspection.finding import Direction, LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.parser import Sink
from filters.inspection.protocols.http.head import Fields

_CONTINUE, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_TOLD = 1 << 18  # bytes of a message that are told together
_MANY = 3000  # messages in one piece: of more, those that are tiny are told together, a line each
_TINY = 32  # bytes
_TAIL = b"\x00\x00\xff\xff"
_KNOWN = {
    b"permessage-deflate",
    b"server_no_context_takeover",
    b"client_no_context_takeover",
    b"server_max_window_bits",
    b"client_max_window_bits",
}


@dataclass(slots=True)
class _Side:
    buffer: bytearray = field(default_factory=bytearray)
    left: int = 0  # bytes of the current frame still to come
    length: int = 0  # of the current frame
    mask: bytes = b""
    place: int = 0  # in the mask
    final: bool = True  # the current frame ends its message
    control: bool = False
    open: bool = False  # a message is not complete
    packed: bool = False  # it is compressed
    inflate: "zlib._Decompress | None" = None
    in_frame: bool = False
    closed: bool = False
    read: int = 0
    out: int = 0
    untold: bytearray = field(default_factory=bytearray)  # of this message, as far as it came in this piece
    said: bool = False  # of this message something was told
    messages: int = 0  # in this piece
    tiny: bytearray = field(default_factory=bytearray)  # those that are told together
    binary: bool = False


class WebSocket:
    """See Parser: the frames of both directions after a 101."""

    protocol = "websocket"

    def __init__(self, sink: Sink, limits: Limits, agreed: Fields) -> None:
        self._sink, self._limits = sink, limits
        self._sides = (_Side(), _Side())
        words = [
            part.strip().split(b"=")[0]
            for one in agreed.list(b"sec-websocket-extensions")
            for part in one.split(b";")
        ]
        if unknown := set(words) - _KNOWN:
            raise Refusal("websocket-extension", f"not known here: {unknown.pop()[:40]!r}")
        self._deflate = b"permessage-deflate" in words
        self._forget = (b"client_no_context_takeover" in words, b"server_no_context_takeover" in words)

    def feed(self, direction: Direction, data: bytes) -> None:
        """See Parser."""
        side = self._sides[direction]
        side.buffer += data
        side.messages = 0
        try:
            while side.buffer:
                before = len(side.buffer)
                if not side.in_frame:
                    self._begin(direction)
                if side.in_frame:
                    self._payload(direction)
                if len(side.buffer) == before:
                    return
        finally:  # what stands before something that is refused, too
            self._tell(direction)
            if side.tiny:
                self._sink.text(direction, "messages", bytes(side.tiny))
                self._sink.fresh(direction, "messages")
                side.tiny.clear()

    def end(self, direction: Direction) -> None:
        """See Parser: connections often end without a closing frame, which hides nothing."""

    def waiting(self, direction: Direction) -> int:
        """See Parser."""
        return len(self._sides[direction].buffer)

    def _begin(self, direction: Direction) -> None:
        side = self._sides[direction]
        if len(side.buffer) < 2:
            return
        first, second = side.buffer[0], side.buffer[1]
        short, masked = second & 0x7F, bool(second & 0x80)
        wide = {126: 2, 127: 8}.get(short, 0)
        size = 2 + wide + (4 if masked else 0)
        self._check_first(direction, first, short, masked=masked)
        if len(side.buffer) < size:
            return
        length = int.from_bytes(side.buffer[2 : 2 + wide], "big") if wide else short
        if wide and length < (126 if wide == 2 else 1 << 16):
            raise Refusal("websocket-length", "a length that is not in its shortest form")
        side.mask, side.place = bytes(side.buffer[size - 4 : size]) if masked else b"", 0
        del side.buffer[:size]
        side.final, side.control = bool(first & 0x80), bool(first & 0x08)
        side.closed = first & 0x0F == _CLOSE
        if not side.control:
            if (first & 0x0F) != _CONTINUE:
                side.packed, side.binary = bool(first & 0x40), first & 0x0F == _BINARY
            side.open = True
        side.left, side.length, side.in_frame = length, length, True

    def _check_first(self, direction: Direction, first: int, short: int, *, masked: bool) -> None:
        side, code, final = self._sides[direction], first & 0x0F, bool(first & 0x80)
        if side.closed:
            raise Refusal("websocket-after-close", "a frame after the closing one")
        if masked != (direction is Direction.TO_SERVER):
            raise Refusal("websocket-mask", "frames are masked to the server and only there")
        if code not in {_CONTINUE, _TEXT, _BINARY, _CLOSE, _PING, _PONG} or first & 0x30:
            raise Refusal("websocket-frame", f"a frame of kind {code}, or a reserved bit")
        if first & 0x40 and (not self._deflate or code not in {_TEXT, _BINARY}):
            raise Refusal("websocket-frame", "compressed where that was not agreed")
        if code >= _CLOSE:
            if not final or short > 125:
                raise Refusal("websocket-frame", "a control frame that is split or long")
        elif side.open != (code == _CONTINUE):
            raise Refusal("websocket-frame", "a message begins or goes on where it can't")

    def _payload(self, direction: Direction) -> None:
        side = self._sides[direction]
        piece = bytes(side.buffer[: side.left])
        del side.buffer[: len(piece)]
        side.left -= len(piece)
        if side.mask and piece:
            piece = self._unmask(side, piece)
        if not side.control:
            self._message(direction, piece)
        elif len(piece) < side.length or not self._put_together(side, piece):
            if piece:
                self._sink.text(direction, "control", piece)
            if not side.left:
                self._sink.fresh(direction, "control")
        side.in_frame = bool(side.left)

    @staticmethod
    def _put_together(side: _Side, whole: bytes | bytearray) -> bool:
        """Take a whole message that is told together with others, for there are very many."""
        side.messages += 1
        if side.messages <= _MANY or len(whole) >= _TINY:
            return False
        side.tiny += whole + b"\n"
        return True

    @staticmethod
    def _unmask(side: _Side, piece: bytes) -> bytes:
        turned = side.mask[side.place :] + side.mask[: side.place]
        pad = (turned * (len(piece) // 4 + 1))[: len(piece)]
        side.place = (side.place + len(piece)) % 4
        return (int.from_bytes(piece, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(piece), "big")

    def _message(self, direction: Direction, piece: bytes) -> None:
        side = self._sides[direction]
        last = side.final and not side.left
        if side.packed:
            side.inflate = side.inflate or zlib.decompressobj(-15)
            self._inflate(direction, piece)
            if last:
                self._inflate(direction, _TAIL)
                if self._forget[direction]:
                    side.inflate = None
        else:
            side.untold += piece
        if last:
            side.open = False
            self._over(direction)

    def _over(self, direction: Direction) -> None:
        side = self._sides[direction]
        if not side.said and self._put_together(side, side.untold):
            side.untold.clear()
            return
        self._tell(direction)
        if side.said and side.binary:
            self._sink.end_object(direction)
        elif side.said:  # an empty message costs nothing
            self._sink.fresh(direction, "message")
        side.said = False

    def _tell(self, direction: Direction) -> None:
        """Tell what came of a message, together: one in very small frames costs no more than one in large ones."""
        side = self._sides[direction]
        if not side.untold:
            return
        text = bytes(side.untold)
        side.untold.clear()
        if side.binary and not side.said:
            self._sink.begin_object(direction, "message", "", only_files=True)
        side.said = True
        if side.binary:
            self._sink.object_data(direction, text)
        else:
            self._sink.text(direction, "message", text)

    def _inflate(self, direction: Direction, data: bytes) -> None:
        side = self._sides[direction]
        side.read += len(data)
        while True:
            try:
                out = side.inflate.decompress(data, 1 << 18)  # type: ignore[union-attr]
            except zlib.error as error:
                raise Refusal("websocket-deflate", f"a message that does not unpack: {error}") from error
            if side.inflate.eof:  # type: ignore[union-attr]
                raise Refusal("websocket-deflate", "a final block: receivers differ about what follows it")
            if out:
                side.out += len(out)
                side.untold += out
                if len(side.untold) >= _TOLD:
                    self._tell(direction)
            if side.out > self._limits.ratio_from and side.out > self._limits.ratio * side.read:
                raise LimitHit("ratio", self._limits.ratio, " bytes decoded per byte")
            data = side.inflate.unconsumed_tail  # type: ignore[union-attr]
            if not data and len(out) < (1 << 18):
                return
