"""Read untrusted bytes front to back, and never beyond their end."""

from collections.abc import Callable
from typing import Literal

from authn.errors import AttestationError


class Cursor:
    """`at` is the place of the next byte."""

    def __init__(
        self,
        untrusted_data: bytes,
        order: Literal["little", "big"],
        ends_early: Callable[[int, int], AttestationError],
    ) -> None:
        """ends_early: makes the error from where the read began and how many bytes are missing."""
        self.data, self.at = untrusted_data, 0
        self._order, self._ends_early = order, ends_early

    @property
    def left(self) -> int:
        """Return how many bytes follow."""
        return len(self.data) - self.at

    def take(self, size: int) -> bytes:
        """Read so many bytes; raises AttestationError."""
        if size > self.left:
            raise self._ends_early(self.at, size - self.left)
        part = self.data[self.at : self.at + size]
        self.at += size
        return part

    def number(self, size: int) -> int:
        """Read an unsigned number of so many bytes; raises AttestationError."""
        return int.from_bytes(self.take(size), self._order)

    def sized(self, size: int) -> bytes:
        """Read bytes behind their length, which has so many bytes; raises AttestationError."""
        return self.take(self.number(size))
