"""A stream nobody knows: its bytes are scanned as they are, both ways."""

from typing import Final

from filters.inspection.finding import Direction, Refusal
from filters.inspection.parser import Sink
from filters.inspection.protocols.identify import Guess, late

_GREETING: Final = b"220"
LOOKED: Final = (
    64 << 10
)  # bytes of the client: mail servers bear a few lines of a few KiB that they don't understand


class Opaque:
    """See Parser. Nothing can be wrong with such a stream, unless it shows late that it is none.

    That matters until the server has spoken: by then its own first bytes say what it is.
    """

    protocol = "opaque"

    def __init__(self, sink: Sink, *, from_start: bool = False) -> None:
        """Take the sink; unless `from_start`, somebody has looked at the client's first piece already."""
        self._sink = sink
        self._looked = from_start
        self._line = bytearray()  # of the client, as far as it came
        self._is_first = True
        self._lines = 0  # that were whole
        self._left = LOOKED
        self._answer = b""  # the server's first bytes

    def feed(self, direction: Direction, data: bytes) -> None:
        """See Parser."""
        self._sink.text(direction, "stream", data)
        if direction is Direction.TO_SERVER:
            seen = self._look(data) if self._left else None
            if seen and self._looked:
                raise Refusal("protocol-mismatch", f"what does not begin as {seen.value} goes on as that")
            self._looked = True
        elif self._left:
            self._answer += data[: len(_GREETING)]
            if not _GREETING.startswith(self._answer[: len(_GREETING)]):
                self._stop()

    def _look(self, data: bytes) -> Guess | None:
        """Return what the client's lines show, once."""
        data = data[: self._left]
        self._left -= len(data)
        end = data.rfind(b"\n") + 1
        lines = bytes(self._line) + data[:end] if end else b""
        if end:
            self._line.clear()
        self._line += data[end:]
        seen = late(lines, self._lines, are_first=self._is_first)
        self._lines += lines.count(b"\n")
        self._is_first = self._is_first and not lines.strip()
        if seen or not self._left:
            self._stop()
        return seen

    def _stop(self) -> None:
        self._left = 0
        self._line.clear()

    def end(self, direction: Direction) -> None:
        """See Parser."""

    def waiting(self, direction: Direction) -> int:
        """See Parser."""
        return 0
