"""Compile patterns in two stages (the only user of hyperscan and RE2).

The first looks at every byte of a stream, for keywords only, with hyperscan. The second looks around each hit,
with RE2: linear in what it reads, whatever the pattern and the bytes are.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import hyperscan
import re2

from filters.inspection.coding.wide import begins_wide
from filters.inspection.patterns.pattern import END, WORD, Pattern, without_ends

LONGEST_WORD: Final = 4000  # bytes: hyperscan takes 16,000 characters, and a word spells each byte with four
_META = re.compile(rb"([\\^$.|?*+()\[\]{}/-])")
_CLASS = re.compile(rb"(?<!\\)\[\^")
# what looks at the bytes beside a match, or quotes what does: seen too often rather than not
_BESIDE = re.compile(rb"[\^$]|\\[bBAzQ]")


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
        # whether a first hit depends on nothing but the bytes it hits: then a part of a text has no hits that the text has not
        self.stands_alone = not any(map(_looks_beside, self.patterns))
        self._alone: Watch | None = None
        self._hits = 0

    def watch(self, on_hit: Callable[[int, int], None]) -> "Watch":
        """Return a stream of the first stage; `on_hit` gets the hit's number and its end in the stream."""
        return Watch(self._first, on_hit)

    def may_match(self, data: bytes) -> bool:
        """Tell whether anything may match in bytes that stand alone; when it says no, nothing does.

        Opening a stream costs more than a look at a few bytes, so all such bytes go through one: it has every hit
        that a stream of their own would have. One too many costs only a closer look.
        """
        if not self.stands_alone or begins_wide(data):
            return True
        if self._alone is None:
            self._alone = self.watch(self._hit)
        self._hits = 0
        self._alone.scan(data)
        if self._hits:
            self._alone.close()
            self._alone = None
        return self._hits > 0

    def _hit(self, _number: int, _end: int) -> None:
        self._hits += 1

    def meant(self, hit: int) -> tuple[Pattern, ...]:
        """Return the patterns that a hit of the first stage may be."""
        return self._meant[hit]

    def matches(self, pattern: Pattern, block: bytes) -> Iterator[tuple[int, int]]:
        """Yield where a pattern matches in a block, its check included."""
        search, at = self._closer[pattern.name].search, 0
        while at <= len(block) and (
            found := search(block, at)
        ):  # beyond the end RE2 searches at the end again
            start, end = found.span()
            at = start + 1  # what is none may hide one that begins inside it
            if end > start and (pattern.check is None or pattern.check(block[start:end])):
                yield start, end
                at = end

    def depends(self, pattern: Pattern, block: bytes, span: tuple[int, int]) -> bool:
        """Tell whether a match at a block's end depends on the byte that follows: on a letter or another sign."""
        if not pattern.looks_beyond:
            return False
        for following in (b"a", b" "):
            found = self._closer[pattern.name].search(block + following, span[0])
            if not found or found.span() != span:
                return True
        return False


class Words:
    """Literals for a first stage that tells of each only once a stream: the first time it stands there."""

    def __init__(self, words: Sequence[tuple[bytes, bool]]) -> None:
        """Compile (literal, whether its case does not count) pairs; raises PatternError."""
        self._first = hyperscan.Database(mode=hyperscan.HS_MODE_STREAM) if words else None
        if self._first:
            once, caseless = hyperscan.HS_FLAG_SINGLEMATCH, hyperscan.HS_FLAG_CASELESS
            try:
                self._first.compile(
                    expressions=[b"".join(b"\\x%02x" % one for one in word) for word, _ in words],
                    ids=list(range(len(words))),
                    elements=len(words),
                    flags=[once | caseless if any_case else once for _, any_case in words],
                )
            except hyperscan.error as error:
                raise PatternError(f"{len(words)} words together: {error}") from error

    def watch(self, on_hit: Callable[[int, int], None]) -> "Watch":
        """Return a stream; `on_hit` gets the literal's number and its end in the stream."""
        return Watch(self._first, on_hit)


class Signs:
    """Short expressions that are looked for in bytes that stand alone, all in one pass over them. For one thread."""

    def __init__(self, *expressions: bytes) -> None:
        """Raises hyperscan's error: they are our own."""
        self._all = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        flag = hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_DOTALL
        count = len(expressions)
        self._all.compile(expressions=list(expressions), ids=list(range(count)), elements=count, flags=flag)
        self._ends: dict[int, int] = {}

    def ends(self, data: bytes) -> Mapping[int, int]:
        """Return where the first of each expression ends, by its number. It holds until the next call."""
        self._ends.clear()
        self._all.scan(data, match_event_handler=self._found)
        return self._ends

    def _found(self, number: int, _start: int, end: int, _flags: int, _context: object) -> None:
        self._ends[number] = end


class Expression:
    """One regular expression of RE2's, for a look at a few bytes."""

    def __init__(self, expression: bytes, *, caseless: bool) -> None:
        """Raises PatternError."""
        options = _options(caseless=caseless)
        try:
            self._compiled = re2.compile(expression, options=options)
        except re2.error as error:
            raise PatternError(_words(error)) from error

    def search(self, data: bytes, start: int) -> tuple[int, int] | None:
        """Return where the first match from `start` on begins and ends."""
        found = self._compiled.search(data, start)
        return found.span() if found else None

    def all(self, data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield every match between two places, one after the other. All together may cost the square of the bytes."""
        for found in self._compiled.finditer(data, start, stop):
            yield found.span()


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
        words = [_META.sub(rb"\\\1", word) for word in one.keywords] or [_loose(one)]
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


def _loose(pattern: Pattern) -> bytes:
    """Return what the first stage looks for where there are no keywords: without a word's or a line's bounds.

    hyperscan tells of a word's end only with the next byte, too late to keep the last one here; and its begin depends
    on the byte before.
    """
    return pattern.first or b"(?m)" + without_ends(_unbounded(pattern))


def _unbounded(pattern: Pattern) -> bytes:
    begun = pattern.expression.removeprefix(WORD).removesuffix(END)
    return begun if begun.endswith(rb"\\b") else begun.removesuffix(rb"\b")


def _looks_beside(pattern: Pattern) -> bool:
    looked_for = pattern.first or _unbounded(pattern)
    return not pattern.keywords and _BESIDE.search(_CLASS.sub(b"[", looked_for)) is not None


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
    options = _options(caseless=pattern.caseless)
    try:
        return re2.compile(b"(?m)" + pattern.expression, options=options)
    except re2.error as error:
        raise PatternError(f"{pattern.id}: {_words(error).replace('(?m)', '', 1)}") from error


def _options(*, caseless: bool) -> Any:
    options = re2.Options()
    options.encoding, options.log_errors = re2.Options.Encoding.LATIN1, False
    options.case_sensitive, options.max_mem = not caseless, 16 << 20
    options.never_nl = False
    return options


def _words(error: Exception) -> str:
    first = error.args[0] if error.args else ""
    return first.decode("latin-1") if isinstance(first, bytes) else str(first)
