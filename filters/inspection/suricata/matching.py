"""Match what a rule says of one buffer against bytes: exactly, in time that grows with the bytes alone.

A chain is followed front to back with the set of places where it may stand after each item, never by trying one
place after another: no order of bytes makes that slow.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from filters.inspection.finding import LimitHit
from filters.inspection.suricata.model import READINGS, ByteTest, Content, DataAt, Group, Item, Regex, Size

LONGEST_NUMBER: Final = 23
_DIGITS: Final = {
    8: re.compile(rb"[ \t]*([0-7]+)"), 10: re.compile(rb"[ \t]*([0-9]+)"), 16: re.compile(rb"[ \t]*(?:0[xX])?([0-9A-Fa-f]+)"),
}  # fmt: skip
PLACES: Final = 1000  # places that an expression is tried at, one by one, in one buffer
_COMPARE: Final[dict[str, Callable[[int, int], bool]]] = {
    "<": int.__lt__, ">": int.__gt__, "=": int.__eq__, "<=": int.__le__, ">=": int.__ge__,
    "&": lambda one, two: bool(one & two), "^": lambda one, two: bool(one ^ two),
}  # fmt: skip


@dataclass(slots=True)
class Block:
    """Bytes from a buffer: `base` counts what came before them, `whole` says that nothing follows."""

    data: bytes
    base: int = 0
    whole: bool = True
    _lower: bytes | None = field(default=None)

    def text(self, *, caseless: bool) -> bytes:
        """Return the bytes, in lower case where case does not count."""
        if not caseless:
            return self.data
        if self._lower is None:
            self._lower = self.data.lower()
        return self._lower

    @property
    def end(self) -> int:
        """Return where the bytes end in the buffer."""
        return self.base + len(self.data)


def matches_any(group: Group, instances: Sequence[bytes]) -> bool:
    """Tell whether one of a buffer's instances is what a group says.

    Where they are readings of the same bytes, no other may be what the group says that they are not.
    """
    if not any(matches(group, one) for one in instances):
        return False
    if len(instances) == 1 or group.buffer not in READINGS:
        return True
    return all(matches(group.denials, one) for one in instances)


def matches(group: Group, data: bytes, *, whole: bool = True) -> bool:
    """Tell whether a buffer is what a group says. Not `whole`: it goes on behind `data`, and nothing is at its end."""
    block = Block(data, whole=whole)
    if not all(one.data in block.text(caseless=one.caseless) for one in group.words):
        return False
    return all(follow(one, block) for one in group.chains)


def follow(chain: Sequence[Item], block: Block, start: int = 0) -> list[int]:
    """Return the places where a chain may stand at its end, in order; raises LimitHit.

    start: where it stands at its beginning, for a first item that is relative.
    """
    places = [start]
    for number, item in enumerate(chain, 1):
        places = _step(item, block, places if item.relative else [0], is_last=number == len(chain))
        if not places:
            break
    return places


def _step(item: Item, block: Block, places: list[int], *, is_last: bool) -> list[int]:
    match item:
        case Content():
            return _content(item, block, places)
        case Regex():
            return _regex(item, block, places, is_last=is_last)
        case Size():
            return places if item.holds(block.end) else []
        case DataAt() if item.negated and not block.whole:
            return []
        case DataAt():
            size = block.end + (1 if item.relative else 0)
            return [one for one in places if (one + item.place < size) != item.negated]
        case ByteTest():
            return [one for one in places if _tested(item, block, one) != item.negated]


def _content(item: Content, block: Block, places: list[int]) -> list[int]:
    starts = _starts(item, block, places)
    size = len(item.data)
    if item.negated:
        return [one for one in places if not _has(item, starts, one)]
    found = []
    for start in starts:
        # the latest place before it reaches furthest
        at = bisect_right(places, start - item.low) - 1
        if at >= 0 and (item.span is None or start + size <= places[at] + item.low + item.span):
            found.append(start + size)
    return found


def _has(item: Content, starts: list[int], place: int) -> bool:
    at = bisect_left(starts, place + item.low)
    return at < len(starts) and (
        item.span is None or starts[at] + len(item.data) <= place + item.low + item.span
    )


def _starts(item: Content, block: Block, places: list[int]) -> list[int]:
    """Return where a content stands in the block, as far as these places let it count."""
    text, base = block.text(caseless=item.caseless), block.base
    low = max(0, places[0] + item.low - base)
    high = len(text) if item.span is None else max(0, places[-1] + item.low + item.span - base)
    if item.at_end:
        last = len(text) - len(item.data)
        return (
            [base + last]
            if block.whole and low <= last and text.endswith(item.data) and len(text) <= high
            else []
        )
    found, at = [], text.find(item.data, low, high)
    while at >= 0:
        found.append(base + at)
        at = text.find(item.data, at + 1, high)
    return found


def _regex(item: Regex, block: Block, places: list[int], *, is_last: bool) -> list[int]:
    """Return where an expression ends; of the last item of a chain one place is enough."""
    if item.negated:
        return [one for one in _few(places) if not _search(item, block, one)]
    if not item.relative or (item.span is None and not item.at_place):
        # from the first on: what the others find it finds too
        return (_search if is_last else _search_all)(item, block, places[0])
    sought = item.loose or item.expression
    if not sought.search(block.data, max(0, places[0] + item.low - block.base)):
        return []  # not anywhere: seen at once, not place by place
    if item.span is not None:  # in a stream: always the last of its chain
        return next((found for one in places if (found := _search(item, block, one))), [])
    if is_last and (found := _search(item, block, places[0])):
        return found
    behind = {end for one in _few(places) for end in _at_place(item, block, one)}
    return sorted(behind if is_last else behind.union(_search_all(item, block, places[0])))


def _few(places: list[int]) -> list[int]:
    if len(places) > PLACES:
        raise LimitHit("rule_places", PLACES, " places to try a rule's expression at")
    return places


def _search(item: Regex, block: Block, place: int) -> list[int]:
    """Return where the first match from a place on ends."""
    return _at_place(item, block, place) or list(islice(_ends(item, block, place), 1))


def _search_all(item: Regex, block: Block, place: int) -> list[int]:
    """Return the ends of all matches from a place on, in order."""
    return sorted({*_ends(item, block, place), *_at_place(item, block, place)})


def _ends(item: Regex, block: Block, place: int) -> Iterator[int]:
    start, stop = _stretch(item, block, place)
    if block.base and not start:
        start = 1  # a `^` inside must see that something is before
    if start <= len(block.data):
        for _, end in item.expression.all(block.data, start, stop):
            if not _hangs(item, block, end):
                yield block.base + end


def _at_place(item: Regex, block: Block, place: int) -> list[int]:
    """Return the end of the match that begins at a place, where `^` is that place."""
    start, stop = _stretch(item, block, place)
    if item.at_place is None or start > len(block.data):
        return []
    found = item.at_place.search(block.data[start:stop], 0)
    return [block.base + start + found[1]] if found and not _hangs(item, block, start + found[1]) else []


def _hangs(item: Regex, block: Block, end: int) -> bool:
    """Tell whether a match counts only if nothing more, or just a line end, comes."""
    return item.looks_beyond and not block.whole and end >= len(block.data) - 1


def _stretch(item: Regex, block: Block, place: int) -> tuple[int, int]:
    """Return where in the block an expression is looked for."""
    low, most = place + item.low - block.base, len(block.data)
    return max(0, low), most if item.span is None else min(most, low + item.span)


def _tested(item: ByteTest, block: Block, place: int) -> bool:
    start = (place if item.relative else 0) + item.place - block.base
    if start < 0 or start + item.size > len(block.data):
        return item.negated  # too short: neither the test nor its opposite holds
    raw = block.data[start : start + (item.size or LONGEST_NUMBER)]
    if item.base:
        digits = _DIGITS[item.base].match(raw)
        if not digits:
            return item.negated
        number = int(digits[1], item.base)
    else:
        number = int.from_bytes(raw, "little" if item.little else "big")
    return _COMPARE[item.operator](number, item.value)
