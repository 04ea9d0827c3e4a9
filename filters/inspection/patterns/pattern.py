"""One thing to look for in text."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from filters.reason import DropReason

# the parts of an expression that may hold or be an assertion: quoted text, classes, escapes, signs
_PART = re.compile(rb"\\Q.*?(?:\\E|\Z)|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|\\.|[$^]", re.DOTALL)
_BEHIND = frozenset((rb"\b", rb"\B", rb"\z", b"$"))
# a word begins. Binary protocols put a length before a text: that byte may be a letter, and is none of the word
WORD = rb"(?:\b|[\x00-\x08\x0b\x0c\x0e-\x1f][0-9A-Za-z_])"
# the same for one that ends: where its last character is no letter (as in base64 for URLs) \b is none
END = rb"(?:\b|[^0-9A-Za-z_-]|$)"
REACH = 512  # no pattern is longer than this: so much of a stream's end is kept to look again


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern: `expression` in the syntax that hyperscan and RE2 share, `keywords` of which every match contains one.

    Without keywords `first`, or else the expression itself, is looked for in every byte: no match may end before
    what `first` finds. `check` may reject a match (checksums), `around` by the bytes before it, BEFORE at most.
    """

    id: str
    detector: str
    expression: bytes
    keywords: tuple[bytes, ...] = ()
    reason: DropReason = DropReason.DATA_LEAK
    caseless: bool = False
    check: Callable[[bytes], bool] | None = None
    detail: str = ""
    first: bytes = b""
    around: Callable[[bytes], bool] | None = None

    @property
    def name(self) -> str:
        """Return its name among all patterns: the check that a finding names."""
        return f"{self.detector}.{self.id}"

    @property
    def looks_beyond(self) -> bool:
        """Tell whether the byte behind a match may make it none: a word's or a line's end."""
        return any(one in _BEHIND for one in _PART.findall(self.expression))


def without_ends(expression: bytes) -> bytes:
    r"""Return what matches wherever an expression does, and ends there, but needs no byte behind a match to be told.

    Of the assertions ^ is left, and \b where it begins the expression.
    """
    kept = expression[:2] if expression.startswith(rb"\b") else b""
    return kept + _PART.sub(
        lambda found: b"(?:)" if found[0] in _BEHIND else found[0], expression[len(kept) :]
    )


def redact(match: bytes) -> str:
    """Return what may be stored of a match: its ends, and how long it was."""
    text = "".join(chr(one) if 0x20 < one < 0x7F else "." for one in match)
    if len(text) <= 12:
        return f"{'*' * len(text)} ({len(text)} bytes)"
    return f"{text[:4]}…{text[-2:]} ({len(text)} bytes)"
