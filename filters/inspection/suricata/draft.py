"""What is read of one rule so far, option by option, and what all of it together means."""

from dataclasses import dataclass, field

from filters.inspection.finding import Direction
from filters.inspection.suricata import keywords
from filters.inspection.suricata.model import RAW, ByteTest, Content, DataAt, Group, Item, Size, Unsupported
from filters.inspection.suricata.parser import Option, RuleError

_Named = tuple[str, int]


@dataclass(slots=True)
class Draft:
    """What was read of a rule so far. `items` keeps each item with its buffer and which naming of it (see `named`)."""

    buffer: str = RAW
    namings: int = 0
    items: list[tuple[_Named, Item]] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    directions: frozenset[Direction] = keywords.BOTH
    protocols: set[str] = field(default_factory=set)
    not_protocols: set[str] = field(default_factory=set)
    preferred: int | None = None  # place in items
    sets: set[str] = field(default_factory=set)
    needs: list[frozenset[str]] = field(default_factory=list)
    silent: bool = False

    def named(self, buffer: str) -> _Named:
        """Return a buffer with the number of its naming, if each may mean another instance of it."""
        return buffer, self.namings if buffer in keywords.REPEATED else 0

    def content(self, option: Option) -> Content:
        """Return the content that a modifier is about; raises RuleError."""
        one = self.items[self.latest(option)][1]
        assert isinstance(one, Content)  # noqa: S101 - `latest` looks for one
        return one

    def latest(self, option: Option) -> int:
        """Return the place of the latest content; raises RuleError."""
        for at in range(len(self.items) - 1, -1, -1):
            if isinstance(self.items[at][1], Content):
                return at
        raise option.error("expected behind a content")

    def add_test(self, one: DataAt | ByteTest) -> None:
        """Take a test: one that is relative is about what stands before it, unless a buffer was named for all that follows."""
        named = self.named(self.buffer)
        if one.relative and self.buffer == RAW:
            before = (place for place, item in reversed(self.items) if not isinstance(item, Size))
            named = next(before, named)
        self.items.append((named, one))

    def change(self, option: Option, content: Content, buffer: str | None = None) -> None:
        """Put another content, or buffer, in the place of the latest."""
        at = self.latest(option)
        self.items[at] = self.named(buffer) if buffer else self.items[at][0], content


def grouped(draft: Draft) -> tuple[Group, ...]:
    """Return what a rule says of each buffer, by its naming; raises Unsupported."""
    found: dict[_Named, list[Item]] = {}
    for named, item in draft.items:
        found.setdefault(named, []).append(item)
    groups = [Group(buffer, tuple(items)) for (buffer, _), items in found.items()]
    if any(one.buffer in draft.absent for one in groups):
        raise Unsupported("absent", "together with a content of the same buffer")
    if not groups and not draft.absent:
        raise Unsupported("no content", "addresses, ports and protocols are the policy's business")
    return (*groups, *(Group(one, (), absent=True) for one in sorted(draft.absent)))


def check_sizes(group: Group, line: int) -> None:
    """Raise RuleError where no buffer has a size that a group says, or none that has room for its contents."""
    needed = max((len(one.data) + (0 if one.relative else one.low) for one in group.words), default=0)
    for size in group.sizes:
        if not size.negated and size.most < max(size.least, needed):
            detail = f"a size up to {size.most}, and at least {max(size.least, needed)} bytes"
            raise RuleError(line, 1, f"{group.buffer}: the rule can never match: {detail}")


def common_directions(draft: Draft, groups: tuple[Group, ...]) -> frozenset[Direction]:
    """Return in which directions all of a rule can come; raises Unsupported."""
    found = draft.directions
    if not found:
        raise Unsupported("flow", "no direction is left")
    for group in groups:
        found &= keywords.BUFFERS[group.buffer][1]
        if not found:
            raise Unsupported(
                group.buffer, "it never comes in the direction that the rest of the rule speaks of"
            )
    return found


def common_protocols(draft: Draft, groups: tuple[Group, ...]) -> frozenset[str]:
    """Return the protocols that a rule is about, empty for any; raises Unsupported."""
    found = set(draft.protocols)
    for group in groups:
        needed = keywords.BUFFERS[group.buffer][0]
        if needed and found and needed not in found:
            raise Unsupported(group.buffer, f"not read in {', '.join(sorted(found))}")
        if needed:
            found = {needed}
    if found and found <= draft.not_protocols:
        raise Unsupported("app-layer-protocol", "no protocol is left")
    return frozenset(found)
