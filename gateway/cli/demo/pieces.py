"""Content in one word, for those who send it and those who compare: drawn bytes and given ones, in order.

A machine on the other side of a serial line gets the word and makes the same bytes of it.
"""

import base64
import hashlib
import random
from dataclasses import dataclass

_DRAWN, _GIVEN = "drawn", "given"


@dataclass(frozen=True, slots=True)
class Drawn:
    """So many bytes of a seed's."""

    seed: int
    size: int

    def word(self) -> str:
        """Write it."""
        return f"{_DRAWN}:{self.seed}:{self.size}"

    def data(self) -> bytes:
        """Draw them."""
        return random.Random(self.seed).randbytes(self.size)  # noqa: S311 - variety, not secrecy


@dataclass(frozen=True, slots=True)
class Given:
    """Bytes as they are."""

    content: bytes

    def word(self) -> str:
        """Write it."""
        return f"{_GIVEN}:{base64.urlsafe_b64encode(self.content).decode()}"

    def data(self) -> bytes:
        """Return them."""
        return self.content


@dataclass(frozen=True, slots=True)
class Content:
    """Pieces one after the other."""

    pieces: tuple[Drawn | Given, ...]

    @classmethod
    def of(cls, *pieces: Drawn | Given) -> "Content":
        """Put pieces together."""
        return cls(pieces)

    @classmethod
    def parse(cls, word: str) -> "Content":
        """Read what `word` wrote; raises ValueError."""
        pieces: list[Drawn | Given] = []
        for one in word.split(","):
            match one.split(":"):
                case [kind, seed, size] if kind == _DRAWN:
                    pieces.append(Drawn(int(seed), int(size)))
                case [kind, content] if kind == _GIVEN:
                    pieces.append(Given(base64.b64decode(content, b"-_", validate=True)))
                case _:
                    raise ValueError(f"expected drawn:SEED:SIZE or given:BASE64, got {one!r}")
        return cls(tuple(pieces))

    def word(self) -> str:
        """Write it as one word."""
        return ",".join(one.word() for one in self.pieces)

    def data(self) -> bytes:
        """Return the bytes."""
        return b"".join(one.data() for one in self.pieces)

    def describe(self) -> str:
        """Say how many bytes there are and their SHA-256, as receivers do."""
        return describe(self.data())


def describe(data: bytes) -> str:
    """Say how many bytes there are, and their SHA-256."""
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"
