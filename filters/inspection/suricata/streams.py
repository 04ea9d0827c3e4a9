"""Follow the bytes of one stream: which rules' parts have been seen, however the bytes were cut and far apart they are.

The first stage tells of each literal once, the first time it comes. Only chains whose literal has come are looked at
closely, and only around it; one that has matched, or can't match any more, costs nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from filters.inspection.matching.database import Words
from filters.inspection.suricata.matching import Block, follow, matches
from filters.inspection.suricata.model import RAW, Content, Group, Rule, Unsupported
from filters.inspection.suricata.segments import Chain, Segment, plan

KEPT: Final = 64 << 10  # bytes of a body kept for what can only be said of it as a whole


@dataclass(frozen=True, slots=True)
class Part:
    """What a rule says of one buffer."""

    rule: Rule
    group: Group


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
    anchors: tuple[int, ...]


class StreamPlan:
    """What rules say of one kind of stream, compiled. Chains are followed at any length; `late` waits for the end."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Take parts about this kind of stream."""
        words = WordList()
        self.begun_by: defaultdict[int, list[_Followed]] = defaultdict(list)
        self.needed: dict[int, int] = {}  # chains of each part, by its rule's number
        self.late: list[tuple[Part, int | None]] = []
        self.tail = 0
        for part in parts:
            try:
                chains = plan(part.group)
            except Unsupported:
                if part.group.buffer == RAW:
                    raise
                longest = max(part.group.words, key=lambda one: len(one.data), default=None)
                self.late.append((part, words.number(longest) if longest else None))
                continue
            self.needed[part.rule.number] = len(chains)
            for chain in chains:
                followed = _Followed(part, chain, tuple(words.number(one.anchor) for one in chain))
                self.begun_by[followed.anchors[0]].append(followed)
                self.tail = max(self.tail, *(one.width for one in chain))
        self.words = words.compiled()
        self.is_empty = not parts


@dataclass(slots=True)
class _State:
    followed: _Followed
    at: int = 0  # its segment
    place: int = 0  # where the segment before it ended


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
            if len(self._kept) == KEPT:
                yield from self.end()

    def end(self) -> Iterator[Part]:
        """Yield the parts that only the end decides; long bodies end for them after KEPT bytes."""
        if self._kept is None:
            return
        data, self._kept = bytes(self._kept), None
        for part, word in self._plan.late:
            if (word is None or word in self._seen) and self._wanted(part.rule) and matches(part.group, data):
                yield part

    def close(self) -> None:
        """Free the engine's state."""
        self._watch.close()

    def _hit(self, number: int, end: int) -> Iterator[Part]:
        self._seen.add(number)
        for followed in self._plan.begun_by.get(number, ()):
            if not self._wanted(followed.part.rule):
                continue
            state = _State(followed)
            if followed.chain[0].is_word:
                yield from self._onward(state, end)
            if state.at < len(followed.chain) and (state.at == 0 or followed.anchors[state.at] in self._seen):
                self._active.append(state)
            elif state.at < len(followed.chain):
                self._waiting[followed.anchors[state.at]].append(state)
        self._active += self._waiting.pop(number, [])

    def _look(self, block: Block) -> Iterator[Part]:
        states, self._active = self._active, []
        for state in states:
            segment = state.followed.chain[state.at]
            place = find(segment, block, state.place)
            while place is not None:
                yield from self._onward(state, place)
                if state.at == len(state.followed.chain):
                    break
                segment = state.followed.chain[state.at]
                place = (
                    find(segment, block, place) if state.followed.anchors[state.at] in self._seen else None
                )
            if state.at == len(state.followed.chain) or (
                segment.last is not None and block.end > segment.last
            ):
                continue
            anchor = state.followed.anchors[state.at]
            (self._active if anchor in self._seen else self._waiting[anchor]).append(state)

    def _onward(self, state: _State, place: int) -> Iterator[Part]:
        state.at, state.place = state.at + 1, place
        if state.at == len(state.followed.chain):
            part = state.followed.part
            self._left[part.rule.number] -= 1
            if not self._left[part.rule.number]:
                yield part


def find(segment: Segment, block: Block, place: int) -> int | None:
    """Return where a segment first ends in a block, the one before it having ended at `place`; raises LimitHit."""
    anchor, text = segment.anchor, block.text(caseless=segment.anchor.caseless)
    first = text.find(anchor.data, max(0, place - block.base - segment.width))
    if first < 0:
        return None
    words = [one for one in segment.items if isinstance(one, Content)]
    if not all(one.data in block.text(caseless=one.caseless) for one in words):
        return None
    low = max(0, first - segment.width)
    high = text.rfind(anchor.data) + len(anchor.data) + segment.width
    if low or high < len(text):
        block = Block(block.data[low:high], block.base + low, whole=False)
    places = follow(segment.items, block, place)
    return places[0] if places else None
