"""Cut what a rule says of an endless stream into segments, each found within a bounded stretch of bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from filters.inspection.patterns.pattern import REACH
from filters.inspection.suricata.model import ByteTest, Content, DataAt, Group, Item, Regex, Size, Unsupported

LONGEST: Final = 2048  # bytes that the contents of one segment may stand apart, all together
_ENDLESS: Final = "in an endless stream"


@dataclass(frozen=True, slots=True)
class Segment:
    """Items that stand near one another: all of them within `width` bytes of the longest of its `words`.

    Its first item is relative to the end of the segment before it, or counted from the stream's beginning.
    last: where it can end at the latest, None for anywhere.
    """

    items: tuple[Item, ...]
    words: tuple[Content, ...]
    width: int
    last: int | None

    @property
    def is_word(self) -> bool:
        """Tell whether it is one content that may stand anywhere."""
        one = self.items[0]
        return len(self.items) == 1 and isinstance(one, Content) and not one.low and one.span is None


Chain = tuple[Segment, ...]


def plan(group: Group) -> tuple[Chain, ...]:
    """Return a group as chains of segments; raises Unsupported where the end of the stream would have to be seen."""
    if not group.words:
        keyword = "pcre" if any(isinstance(one, Regex) for one in group.items) else "content"
        raise Unsupported(keyword, f"nothing beside it that has to be there, {_ENDLESS}")
    return tuple(_chain(_beside(one, group)) for one in group.chains)


def _beside(chain: tuple[Item, ...], group: Group) -> tuple[Item, ...]:
    """Bind a chain that begins with an expression to the group's longest content: there it is looked for."""
    first = chain[0]
    if not isinstance(first, Regex):
        return chain
    if len(chain) > 1:
        raise Unsupported("pcre", f"what is relative to an expression, {_ENDLESS}")
    anchor = replace(max(group.words, key=lambda one: len(one.data)), relative=False, low=0, span=None)
    return anchor, replace(first, relative=True, at_place=None, loose=None, low=-REACH, span=2 * REACH)


def _chain(items: Sequence[Item]) -> Chain:
    runs: list[list[Item]] = []
    for number, one in enumerate(items):
        _check(one, is_last=number == len(items) - 1)
        bounded = replace(one, span=REACH) if isinstance(one, Regex) and one.span is None else one
        unbound = isinstance(one, Content) and one.relative and one.span is None
        if runs and not unbound:
            runs[-1].append(bounded)
        elif unbound and one.low < 0:  # type: ignore[union-attr]
            raise Unsupported("distance", f"negative, without within, {_ENDLESS}")
        else:
            runs.append([bounded])
    return tuple(_segment(run, is_last=run is runs[-1]) for run in runs)


def _check(one: Item, *, is_last: bool) -> None:
    match one:
        case Content(negated=True):
            raise Unsupported("content", f"negated, {_ENDLESS}: it is never seen whole")
        case Content(at_end=True):
            raise Unsupported("endswith", _ENDLESS)
        case Regex(negated=True):
            raise Unsupported("pcre", f"negated, {_ENDLESS}")
        case Regex(looks_beyond=True):
            raise Unsupported("pcre", rf"$ or \b, {_ENDLESS}")
        case Regex() if not is_last:
            raise Unsupported("pcre", f"what is relative to an expression, {_ENDLESS}")
        case Size():
            raise Unsupported("bsize", _ENDLESS)
        case DataAt(negated=True):
            raise Unsupported("isdataat", f"negated, {_ENDLESS}")
        case DataAt(relative=False) | ByteTest(relative=False):
            raise Unsupported(
                "byte_test" if isinstance(one, ByteTest) else "isdataat", f"not relative, {_ENDLESS}"
            )


def _segment(items: list[Item], *, is_last: bool) -> Segment:
    words = [one for one in items if isinstance(one, Content)]
    if not words:
        raise Unsupported("pcre", f"without a content, {_ENDLESS}")
    if not is_last and any(_low(one) < 0 for one in items[1:]):
        raise Unsupported("distance", f"negative, {_ENDLESS}")
    width = sum(_extent(one) for one in items[1:]) + len(words[0].data)
    if width > LONGEST:
        raise Unsupported("within", f"more than {LONGEST} bytes, {_ENDLESS}")
    first = words[0]
    last = None if first.relative or first.span is None else first.low + first.span + width
    return Segment(tuple(items), tuple(sorted(words, key=lambda one: -len(one.data))), width, last)


def _low(one: Item) -> int:
    match one:
        case Content() | Regex():
            return one.low
        case DataAt() | ByteTest():
            return one.place
        case _:
            return 0


def _extent(one: Item) -> int:
    """Return how far from the place before it an item can reach, either way."""
    match one:
        case Content():
            return abs(one.low) + (one.span or 0) + len(one.data)
        case Regex():
            return abs(one.low) + (one.span or 0)
        case DataAt():
            return abs(one.place) + 1
        case ByteTest():
            return abs(one.place) + one.size
        case _:
            return 0
