"""What a protocol's parser is given and what it gives: the border between protocols and everything behind them."""

from collections.abc import Callable
from typing import Protocol

from filters.inspection.finding import Direction


class Sink(Protocol):
    """Takes what a parser read. Everything said here is scanned before the bytes it came from are released."""

    def text(self, direction: Direction, channel: str, data: bytes) -> None:
        """Take more bytes of a channel; what is split over two calls is found all the same."""

    def fresh(self, direction: Direction, channel: str) -> None:
        """Say that what follows on a channel has nothing to do with what came before."""

    def fields(
        self, direction: Direction, protocol: str, read: Callable[[], list[tuple[str, bytes]]]
    ) -> None:
        """Say that a message begins whose whole fields `read` names; an object that follows is its body."""

    def begin_object(
        self, direction: Direction, name: str, media_type: str, *, only_files: bool = False
    ) -> None:
        """Say that an object begins; at most one is open a direction.

        only_files: it may also be a message of some protocol, and is judged only if it looks like a file.
        """

    def object_data(self, direction: Direction, data: bytes) -> None:
        """Take more of the object, decoded; it is scanned as text as well."""

    def coded(self, direction: Direction, level: int, coding: str, data: bytes, *, shown: bool) -> None:
        """Take more of what the object is decoded from, by the coding at a level (0: the outermost).

        shown: whether anything came out of it. It is not scanned as text.
        """

    def end_object(self, direction: Direction) -> None:
        """Say that the object is whole."""

    def partial_object(self, direction: Direction, detail: str) -> None:
        """Say that the object to come is only a piece of one; raises Refusal where that is not allowed."""

    def note(self, kind: str, **facts: str) -> None:
        """Take what was learnt about the flow (names, versions): it becomes part of the summary."""


class Parser(Protocol):
    """One protocol on one connection. Raises Refusal; after that it is not fed again."""

    protocol: str

    def feed(self, direction: Direction, data: bytes) -> None:
        """Take more bytes of one direction."""

    def end(self, direction: Direction) -> None:
        """Say that this direction was closed in order."""

    def waiting(self, direction: Direction) -> int:
        """Return how many bytes at the end of this direction are not understood yet: they must not leave."""
