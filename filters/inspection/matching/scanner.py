"""Scan one channel of text: cheap over every byte, closely where something may be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from filters.inspection.coding.wide import LOOKED_AT, Narrower, begins_wide
from filters.inspection.matching.database import Database
from filters.inspection.patterns.pattern import REACH, Pattern
from filters.inspection.patterns.surroundings import BEFORE

_LOOKS: Final = 64  # at what stands before short matches, and one each MiB: by chance there are far fewer
_SHORT: Final = 4096  # bytes: for these a look beforehand costs less than a stream of their own


@dataclass(frozen=True, slots=True)
class Match:
    """A match: its pattern, its bytes, and its end in the stream."""

    pattern: Pattern
    text: bytes
    end: int


class Scanner:
    """One stream of text, in pieces of any size. A match is told with the piece that completes it, once.

    What begins as UTF-16 or UTF-32 is looked through as that too.
    """

    def __init__(self, database: Database, *, may_be_wide: bool = True) -> None:
        self._database, self._may_be_wide = database, may_be_wide
        self._watch = database.watch(self._hit)
        self._before = b""  # the last REACH bytes
        self._seen = 0
        # what may yet become a match: by number of the hit, the first and the last place of hits near each other
        self._open: dict[int, list[tuple[int, int]]] = {}
        self._told: dict[tuple[str, int], int] = {}
        self._hits = 0  # of the first stage, not yet taken: each costs as much as hundreds of bytes
        self._looks = 0  # at what stands before short matches
        self.doubtful: Match | None = None  # it ends where the stream ends so far
        self.struck = False  # whether the first stage found anything that ends in the latest piece
        self._wide: tuple[Scanner, Narrower] | None = None

    def _hit(self, number: int, end: int) -> None:
        self.struck = True
        self._hits += 1
        spans = self._open.setdefault(number, [])
        if spans and spans[-1][0] <= end <= spans[-1][1] + 2 * REACH:
            spans[-1] = spans[-1][0], max(spans[-1][1], end)  # what is looked at around both is one stretch
        else:
            spans.append((end, end))

    def take_hits(self) -> int:
        """Return how often the first stage found something since the last call."""
        count, self._hits = self._hits, 0
        return count + (self._wide[0].take_hits() if self._wide else 0)

    def scan(self, data: bytes) -> Sequence[Match]:
        """Return the matches that `data` completes. Then `doubtful` tells of those that only the next byte decides."""
        self.doubtful, self.struck = None, False
        self._watch.scan(data)
        found = list(self._look(data)) if self._open else []
        wide = data
        if self._may_be_wide and self._seen < LOOKED_AT and begins_wide(self._before + data):
            wide, self._may_be_wide = self._before + data, False
            self._wide = Scanner(self._database, may_be_wide=False), Narrower(wide)
        self._seen += len(data)
        if self._wide:
            inner, narrower = self._wide
            found += self._look_wide(inner, narrower.narrowed(wide), half=narrower.half)
        if self._open:
            self._close_old()
        self._before = data[-REACH:] if len(data) >= REACH else (self._before + data)[-REACH:]
        return found

    def _close_old(self) -> None:
        """Forget hits around which everything has come."""
        still = {
            number: [span for span in spans if span[1] + REACH > self._seen]
            for number, spans in self._open.items()
        }
        self._open = {number: spans for number, spans in still.items() if spans}

    def _look_wide(self, inner: "Scanner", data: bytes, *, half: bool) -> list[Match]:
        self.struck = True  # this may say something however little the rest does
        whole = data[:-1] if half else data
        found = [*inner.scan(whole)] if whole else []
        if half or not data:  # half a character decides nothing, and what is in doubt must not leave
            found += inner._settle()
        if half:
            found += inner.scan(data[-1:])
        if inner.doubtful and not self.doubtful:
            self.doubtful = replace(inner.doubtful, end=self._seen)
        return [replace(one, end=self._seen) for one in found]

    def _settle(self) -> list[Match]:
        doubtful, self.doubtful = self.doubtful, None
        return [doubtful] if doubtful and self._is_new(doubtful) else []

    def _look(self, data: bytes) -> Iterator[Match]:
        origin, length = self._seen - len(self._before), len(self._before) + len(data)
        places: dict[str, tuple[Pattern, list[tuple[int, int]]]] = {}
        for number, spans in self._open.items():
            for pattern in self._database.meant(number):
                near = places.setdefault(pattern.name, (pattern, []))[1]
                near += [(first - origin, last - origin) for first, last in spans]
        for pattern, near in places.values():
            for start, stop in stretches(near, length):
                block = self._cut(data, start, stop)
                for first, last in self._database.matches(pattern, block):
                    at_start, at_stop = first == 0 and origin + start, start + last == stop < length
                    if at_start or (at_stop and pattern.looks_beyond):
                        continue  # what stands beside it is not seen: it may be the middle of something longer
                    match = Match(pattern, block[first:last], origin + start + last)
                    if not self._fits(pattern, match, block[max(0, first - BEFORE) : first]):
                        continue
                    if start + last == length and self._database.depends(pattern, block, (first, last)):
                        self.doubtful = match
                    elif self._is_new(match):
                        yield match
        self._told = {key: end for key, end in self._told.items() if key[1] + 2 * REACH > self._seen}

    def _fits(self, pattern: Pattern, match: Match, before: bytes) -> bool:
        """Ask whether a match fits what stands before it; what was decided earlier was asked then.

        A stream with more of these than chance makes is made so, or full of marks: there all count, without a look.
        """
        if pattern.around is None:
            return True
        if match.end < self._seen or (match.end == self._seen and not pattern.looks_beyond):
            return False
        self._looks += 1
        return self._looks > _LOOKS + (match.end >> 20) or pattern.around(before)

    def _cut(self, data: bytes, start: int, stop: int) -> bytes:
        """Return a part of what is kept and `data` together."""
        kept = len(self._before)
        if start >= kept:
            return data[start - kept : stop - kept]
        return self._before[start:stop] + data[: max(0, stop - kept)]

    def _is_new(self, match: Match) -> bool:
        key = match.pattern.name, match.end - len(match.text)
        if key in self._told:
            return False
        self._told[key] = match.end
        return True

    def close(self) -> None:
        """Free the stream's state."""
        self._watch.close()
        if self._wide:
            self._wide[0].close()


def scan_whole(database: Database, data: bytes) -> Iterator[Match]:
    """Yield the matches in bytes that stand alone."""
    if len(data) <= _SHORT and not database.may_match(data):
        return
    scanner = Scanner(database)
    try:
        yield from scanner.scan(data)
        if scanner.doubtful:
            yield scanner.doubtful
    finally:
        scanner.close()


def stretches(spans: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Return the parts of a block within REACH of the spans (first and last place), overlapping ones made one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        start, stop = max(0, first - REACH), min(length, last + REACH)
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
