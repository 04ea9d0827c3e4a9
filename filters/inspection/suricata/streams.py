"""Follow the bytes of one stream: which rules' parts have been seen, however the bytes were cut and far apart they are.

The first stage tells of each literal once, the first time it comes. A segment is looked at closely only when all its
literals have come, and only around the longest; a chain that has matched, or can't match any more, costs nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from filters.inspection.matching.database import Words
from filters.inspection.suricata.matching import Block, follow, matches
from filters.inspection.suricata.model import RAW, Content, Group, Regex, Rule, Unsupported
from filters.inspection.suricata.segments import Chain, Segment, plan

KEPT: Final = 64 << 10  # bytes of a body kept for what can only be said of it as a whole


@dataclass(frozen=True, slots=True)
class Part:
    """What a rule says of one buffer."""

    rule: Rule
    group: Group

    @property
    def key(self) -> tuple[int, str]:
        """Return its rule's number and its buffer."""
        return self.rule.number, self.group.buffer


class WordList:
    """Numbers literals for a first stage."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[bytes, bool], int] = {}

    def number(self, one: Content) -> int:
        """Return the literal's number."""
        return self._numbers.setdefault((one.data, one.caseless), len(self._numbers))

    def compiled(self) -> Words:
        """Compile what was numbered."""
        return Words(list(self._numbers))


@dataclass(frozen=True, slots=True)
class _Followed:
    part: Part
    chain: Chain
    needs: tuple[tuple[int, ...], ...]  # the literals of each segment, the longest first


class StreamPlan:
    """What rules say of one kind of stream, compiled. Chains are followed at any length; `late` waits for the end.

    A body's part with an expression is both: found near its contents at once, further away at the end.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        """Take parts about this kind of stream."""
        words = WordList()
        self.begun_by: defaultdict[int, list[_Followed]] = defaultdict(list)
        self.needed: dict[tuple[int, str], int] = {}  # chains of each part
        self.late: defaultdict[int | None, list[Part]] = defaultdict(list)  # by a literal that each needs
        self.tail = 0
        for part in parts:
            chains = _plan(part.group)
            if chains is None or _sees_further(part.group):
                longest = max(part.group.words, key=lambda one: len(one.data), default=None)
                self.late[words.number(longest) if longest else None].append(part)
            if chains is None:
                continue
            self.needed[part.key] = len(chains)
            for chain in chains:
                needs = tuple(tuple(words.number(one) for one in segment.words) for segment in chain)
                self.begun_by[needs[0][0]].append(_Followed(part, chain, needs))
                self.tail = max(self.tail, *(one.width for one in chain))
        self.words = words.compiled()
        self.is_empty = not parts


def _plan(group: Group) -> tuple[Chain, ...] | None:
    """Return a group's chains, or None where only the end decides about a body; raises Unsupported."""
    try:
        return plan(group)
    except Unsupported:
        if group.buffer == RAW:
            raise
        return None


def _sees_further(group: Group) -> bool:
    """Tell whether an expression about a body may match further from a content than a stream is searched.

    Not one that is tried place by place: it begins at its content, and a long body has more places than may be tried.
    """
    expressions = [one for one in group.items if isinstance(one, Regex)]
    tried = any(one.at_place for one in expressions)
    return group.buffer != RAW and bool(expressions) and not tried


@dataclass(slots=True)
class _State:
    followed: _Followed
    at: int = 0  # its segment
    place: int = 0  # where the segment before it ended

    @property
    def is_done(self) -> bool:
        """Tell whether all segments were found."""
        return self.at == len(self.followed.chain)


class StreamWatch:
    """One stream. `wanted` tells whether a rule is about it; a part is told once."""

    def __init__(self, stream: StreamPlan, wanted: Callable[[Rule], bool]) -> None:
        self._plan, self._wanted = stream, wanted
        self._hits: list[tuple[int, int]] = []
        self._watch = stream.words.watch(lambda number, end: self._hits.append((number, end)))
        self._seen: set[int] = set()
        self._active: list[_State] = []
        self._waiting: defaultdict[int, list[_State]] = defaultdict(list)
        self._left = dict(stream.needed)
        self._before, self._size = b"", 0
        self._kept: bytearray | None = bytearray() if stream.late else None
        self._sized: list[Part] = []  # of a body that was cut: what only its size may still deny

    def scan(self, data: bytes) -> Iterator[Part]:
        """Yield the parts that `data` completes."""
        self._hits.clear()
        self._watch.scan(data)
        for number, end in self._hits:
            yield from self._hit(number, end)
        if self._active:
            yield from self._look(Block(self._before + data, self._size - len(self._before), whole=False))
        self._size += len(data)
        if tail := self._plan.tail:
            self._before = data[-tail:] if len(data) >= tail else (self._before + data)[-tail:]
        if self._kept is not None:
            self._kept += data[: KEPT - len(self._kept)]
            if self._size > KEPT:
                yield from self._cut()

    def end(self) -> Iterator[Part]:
        """Yield the parts that only the end decides."""
        if self._kept is not None:
            data, self._kept = bytes(self._kept), None
            yield from (one for one in self._late() if matches(one.group, data))
        yield from (one for one in self._sized if all(size.holds(self._size) for size in one.group.sizes))
        self._sized.clear()

    def _cut(self) -> Iterator[Part]:
        """Yield what KEPT bytes decide: a long body ends for them there, but its size is known at its end."""
        assert self._kept is not None  # noqa: S101 - its caller asks
        data, self._kept = bytes(self._kept), None
        for part in self._late():
            if not matches(part.group.without_sizes, data, whole=False):
                continue
            if all(size.holds_from(self._size) for size in part.group.sizes):
                yield part
            else:
                self._sized.append(part)

    def _late(self) -> Iterator[Part]:
        """Yield the parts that are not told yet and whose literal has come."""
        for word in (None, *sorted(self._seen)):
            for part in self._plan.late.get(word, ()):
                if self._left.get(part.key) != 0 and self._wanted(part.rule):
                    yield part

    def close(self) -> None:
        """Free the engine's state."""
        self._watch.close()

    def _hit(self, number: int, end: int) -> Iterator[Part]:
        self._seen.add(number)
        for state in self._waiting.pop(number, []):
            self._put(state)
        for followed in self._plan.begun_by.get(number, ()):
            if not self._wanted(followed.part.rule):
                continue
            state = _State(followed)
            if followed.chain[0].is_word:
                yield from self._onward(state, end)
            if not state.is_done:
                self._put(state)

    def _lacks(self, state: _State) -> int | None:
        """Return a literal of the chain's segment that has not come yet."""
        return next((one for one in state.followed.needs[state.at] if one not in self._seen), None)

    def _put(self, state: _State) -> None:
        """Look at a chain from now on, or when the next literal that it lacks has come."""
        lacks = self._lacks(state)
        if lacks is None:
            self._active.append(state)
        else:
            self._waiting[lacks].append(state)

    def _look(self, block: Block) -> Iterator[Part]:
        states, self._active = self._active, []
        for state in states:
            yield from self._advance(state, block)

    def _advance(self, state: _State, block: Block) -> Iterator[Part]:
        while not state.is_done and self._lacks(state) is None:
            segment = state.followed.chain[state.at]
            place = find(segment, block, state.place)
            if place is None:
                if segment.last is None or block.end <= segment.last:
                    self._active.append(state)
                return
            yield from self._onward(state, place)
        if not state.is_done:
            self._put(state)

    def _onward(self, state: _State, place: int) -> Iterator[Part]:
        state.at, state.place = state.at + 1, place
        if state.is_done:
            part = state.followed.part
            self._left[part.key] -= 1
            if not self._left[part.key]:
                yield part


def find(segment: Segment, block: Block, place: int) -> int | None:
    """Return where a segment first ends in a block, the one before it having ended at `place`; raises LimitHit."""
    anchor = segment.words[0]
    text = block.text(caseless=anchor.caseless)
    first = text.find(anchor.data, max(0, place - block.base - segment.width))
    if first < 0:
        return None
    if not all(one.data in block.text(caseless=one.caseless) for one in segment.words):
        return None
    low = max(0, first - segment.width)
    high = text.rfind(anchor.data) + len(anchor.data) + segment.width
    if low or high < len(text):
        block = Block(block.data[low:high], block.base + low, whole=False)
    places = follow(segment.items, block, place)
    return places[0] if places else None
