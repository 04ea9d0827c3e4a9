"""What a rule says once it is understood."""

from dataclasses import dataclass
from enum import StrEnum

from filters.inspection.finding import Direction
from filters.inspection.matching.database import Expression
from filters.inspection.suricata.addresses import Addresses, Ports
from filters.reason import DropReason

RAW = "payload"  # the bytes of one direction, as TCP carries them
BODIES = frozenset({"file.data", "http.request_body", "http.response_body"})
ENDLESS = 1 << 40  # bytes: the size of what may go on for ever
READINGS = frozenset({"http.uri", "http.uri.dotprefix"})  # instances are readings of the same bytes
DOTTED = ".dotprefix"  # behind a buffer's name: the buffer with a dot before it


class Unsupported(Exception):
    """A rule asks for what is not done here: `keyword` stopped it."""

    def __init__(self, keyword: str, detail: str) -> None:
        super().__init__(f"{keyword}: {detail}")
        self.keyword, self.detail = keyword, detail


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes to find. Without `relative` low and span are offset and depth, with it distance and within.

    In caseless ones `data` is in lower case.
    """

    data: bytes
    caseless: bool = False
    negated: bool = False
    relative: bool = False
    low: int = 0
    span: int | None = None
    at_end: bool = False


@dataclass(frozen=True, slots=True)
class Regex:
    """An expression to find: from `low` on, at most `span` bytes of text, counted as a content's.

    at_place: of a relative one with a `^`, the same where it begins at the place behind which it is looked for: there
    `^` is that place. `loose` is then the same without any `^`, so that it matches where either does.
    looks_beyond: what follows a match may make it none.
    """

    expression: Expression
    negated: bool = False
    relative: bool = False
    at_place: Expression | None = None
    loose: Expression | None = None
    looks_beyond: bool = False
    low: int = 0
    span: int | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """The buffer's size in bytes, both ends included."""

    least: int
    most: int
    negated: bool = False
    relative: bool = False

    def holds(self, size: int) -> bool:
        """Tell whether a buffer of this size is meant."""
        return (self.least <= size <= self.most) != self.negated

    def holds_from(self, size: int) -> bool:
        """Tell whether this size and every greater one is meant."""
        return size > self.most if self.negated else self.least <= size and self.most >= ENDLESS


@dataclass(frozen=True, slots=True)
class DataAt:
    """Whether there is a byte at a place."""

    place: int
    relative: bool = False
    negated: bool = False


@dataclass(frozen=True, slots=True)
class ByteTest:
    """A number in the buffer against a value. `base` is set for numbers written as text, of any length if `size` is 0."""

    size: int
    operator: str
    value: int
    place: int
    relative: bool = False
    negated: bool = False
    little: bool = False
    base: int = 0


Item = Content | Regex | Size | DataAt | ByteTest


def moves(one: Item) -> bool:
    """Tell whether what follows an item may be relative to where it stands."""
    return isinstance(one, Content | Regex) and not one.negated


@dataclass(frozen=True, slots=True)
class Group:
    """What one buffer has to be like: items in their order, or that there is no such buffer."""

    buffer: str
    items: tuple[Item, ...]
    absent: bool = False

    @property
    def chains(self) -> tuple[tuple[Item, ...], ...]:
        """Return the items in runs, each item relative to the one before it in its run.

        What moves nothing and is relative to nothing is a run of its own: what comes behind it is relative to the
        content or expression before it.
        """
        runs: list[list[Item]] = []
        moved: list[Item] | None = None  # the run that what is relative belongs to
        for one in self.items:
            run = moved if one.relative else None
            if run is None:
                runs.append(run := [])
            run.append(one)
            if moves(one):
                moved = run
        return tuple(tuple(one) for one in runs)

    @property
    def denials(self) -> "Group":
        """Return what has to stand nowhere in the buffer."""
        said = (one for one in self.items if isinstance(one, Content | Regex) and one.negated)
        return Group(self.buffer, tuple(one for one in said if not one.relative))

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Return which sizes the buffer may have."""
        return tuple(one for one in self.items if isinstance(one, Size))

    @property
    def without_sizes(self) -> "Group":
        """Return what has to be so at any size."""
        return Group(self.buffer, tuple(one for one in self.items if not isinstance(one, Size)))

    @property
    def words(self) -> list[Content]:
        """Return what has to be there whatever else is."""
        return [one for one in self.items if isinstance(one, Content) and not one.negated]


class Action(StrEnum):
    """What a match does: tell, or tell and cut."""

    ALERT = "alert"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that is in force. `number` is its place in its set; `protocols` is empty for any.

    Its bits: it sets `sets`, and of each of `needs` it needs one. A silent one only sets.
    """

    number: int
    gid: int
    sid: int
    message: str
    action: Action
    reason: DropReason
    source: Addresses
    source_ports: Ports
    destination: Addresses
    destination_ports: Ports
    both_ways: bool
    tcp_only: bool
    protocols: frozenset[str]
    not_protocols: frozenset[str]
    directions: frozenset[Direction]
    groups: tuple[Group, ...]
    preferred: Content | None = None  # fast_pattern
    sets: frozenset[str] = frozenset()
    needs: tuple[frozenset[str], ...] = ()
    silent: bool = False

    @property
    def check(self) -> str:
        """Return the name of what found it."""
        return f"suricata.{self.gid}:{self.sid}"

    @property
    def raw(self) -> Group | None:
        """Return what the bytes of the direction have to be like."""
        return next((one for one in self.groups if one.buffer == RAW), None)

    @property
    def transaction(self) -> tuple[Group, ...]:
        """Return what one message has to be like."""
        return tuple(one for one in self.groups if one.buffer != RAW)

    def speaks_of(self, direction: Direction, client: tuple[str, int], server: tuple[str, int]) -> bool:
        """Tell whether bytes of a flow that go in this direction are this rule's business."""
        if direction not in self.directions:
            return False
        here, there = (client, server) if direction is Direction.TO_SERVER else (server, client)
        return self._header(here, there) or (self.both_ways and self._header(there, here))

    def _header(self, here: tuple[str, int], there: tuple[str, int]) -> bool:
        return (
            here[1] in self.source_ports
            and there[1] in self.destination_ports
            and here[0] in self.source
            and there[0] in self.destination
        )

    def accepts(self, protocol: str) -> bool:
        """Tell whether the rule is about this protocol; of one that is not known yet it is not."""
        if self.not_protocols and (not protocol or protocol in self.not_protocols):
            return False
        return not self.protocols or protocol in self.protocols
