"""Compile patterns in two stages (the only user of hyperscan and RE2).

The first looks at every byte of a stream, for keywords only, with hyperscan. The second looks around each hit,
with RE2: linear in what it reads, whatever the pattern and the bytes are.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hyperscan
import re2

from filters.inspection.patterns.pattern import Pattern

_META = re.compile(rb"([\\^$.|?*+()\[\]{}/-])")


class PatternError(ValueError):
    """A pattern can't be compiled: which one, and what the engine says."""


class Database:
    """Patterns, compiled."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        """Raises PatternError."""
        self.patterns = tuple(patterns)
        self._closer = {one.name: _compile_second(one) for one in self.patterns}
        if len(self._closer) < len(self.patterns):
            names = [one.name for one in self.patterns]
            raise PatternError(
                f"{next(one for one in names if names.count(one) > 1)}: two patterns have this id"
            )
        self._first, self._meant = _compile_first(self.patterns)

    def watch(self, on_hit: Callable[[int, int], None]) -> "Watch":
        """Return a stream of the first stage; `on_hit` gets the hit's number and its end in the stream."""
        return Watch(self._first, on_hit)

    def meant(self, hit: int) -> tuple[Pattern, ...]:
        """Return the patterns that a hit of the first stage may be."""
        return self._meant[hit]

    def matches(self, pattern: Pattern, block: bytes) -> Iterator[tuple[int, int]]:
        """Yield where a pattern matches in a block, its check included."""
        for found in self._closer[pattern.name].finditer(block):
            start, end = found.span()
            if end > start and (pattern.check is None or pattern.check(block[start:end])):
                yield start, end


class Watch:
    """One stream through the first stage. Close it when the stream has ended."""

    def __init__(self, database: Any, on_hit: Callable[[int, int], None]) -> None:
        # python-hyperscan's stream holds no reference to its handler: we do
        self._handler = lambda number, _start, end, _flags, _context: on_hit(number, end)
        self._stream = database.stream(match_event_handler=self._handler) if database else None
        if self._stream:
            self._stream.__enter__()

    def scan(self, data: bytes) -> None:
        """Scan the next bytes."""
        if self._stream:
            self._stream.scan(data)

    def close(self) -> None:
        """Free the stream's state."""
        if self._stream:
            self._stream.__exit__(None, None, None)
            self._stream = None


def _compile_first(patterns: Sequence[Pattern]) -> tuple[Any, list[tuple[Pattern, ...]]]:
    meant: dict[bytes, list[Pattern]] = {}
    for one in patterns:
        words = [_META.sub(rb"\\\1", word) for word in one.keywords] or [
            # hyperscan tells of a word's end only with the next byte: too late to keep the last one here
            one.first or one.expression.removesuffix(b"\\b")
        ]
        for expression in words:
            # the keyword in any case where one of its patterns wants that: the second stage decides
            meant.setdefault(b"(?i)" + expression if one.caseless else expression, []).append(one)
    if not meant:
        return None, []
    database = hyperscan.Database(mode=hyperscan.HS_MODE_STREAM)
    try:
        database.compile(expressions=list(meant), ids=list(range(len(meant))), elements=len(meant), flags=0)
    except hyperscan.error as error:
        raise PatternError(_blame(meant, str(error))) from error
    return database, [tuple(one) for one in meant.values()]


def _blame(meant: dict[bytes, list[Pattern]], words: str) -> str:
    """Find which pattern it was: the engine does not say."""
    for expression, patterns in meant.items():
        try:
            hyperscan.Database(mode=hyperscan.HS_MODE_STREAM).compile(
                expressions=[expression], ids=[0], elements=1, flags=0
            )
        except hyperscan.error as error:
            return f"{patterns[0].id}: {error}"
    return f"all patterns together: {words}"


def _compile_second(pattern: Pattern) -> Any:
    options = re2.Options()
    options.encoding, options.log_errors = re2.Options.Encoding.LATIN1, False
    options.case_sensitive, options.max_mem = not pattern.caseless, 16 << 20
    options.never_nl = False
    try:
        return re2.compile(b"(?m)" + pattern.expression, options=options)
    except re2.error as error:
        raise PatternError(f"{pattern.id}: {error}") from error
