"""What is told of a capture: findings with their flows, and what was read."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from filters.inspection.finding import Finding

Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """Who talked to whom: the client first."""

    protocol: str
    client: Endpoint
    server: Endpoint


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a flow spoke, and what its parser learnt of it (see `parser.Sink.note`): the latest of it, and how much came before."""

    flow: Flow
    spoken: str
    notes: tuple[tuple[str, dict[str, str]], ...] = ()
    earlier: int = 0


Tell = Callable[[Learnt], None]


@dataclass(frozen=True, slots=True)
class Event:
    """A finding with its flow and frame."""

    finding: Finding
    flow: Flow | None
    frame: int
    time: float


@dataclass(slots=True)
class Summary:
    """What was read. `left_out` counts what can't be inspected, or not as a whole, by reason."""

    frames: int = 0
    flows: int = 0
    bytes: int = 0
    protocols: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    refused_flows: int = 0
    broken: str = ""

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count what was left out; nothing is no reason."""
        if count:
            self.left_out[reason] += count
