"""A stream nobody knows: its bytes are scanned as they are, both ways."""

from filters.inspection.finding import Direction
from filters.inspection.parser import Sink


class Opaque:
    """See Parser. Nothing can be wrong with such a stream."""

    protocol = "opaque"

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def feed(self, direction: Direction, data: bytes) -> None:
        """See Parser."""
        self._sink.text(direction, "stream", data)

    def end(self, direction: Direction) -> None:
        """See Parser."""

    def waiting(self, direction: Direction) -> int:
        """See Parser."""
        return 0
