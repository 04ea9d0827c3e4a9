"""What inspection says: findings, and the refusals that parsers raise."""

from dataclasses import dataclass, replace
from enum import IntEnum

from filters.reason import DropReason


class Direction(IntEnum):
    """Which way bytes go. The client opened the connection."""

    TO_SERVER = 0
    TO_CLIENT = 1

    @property
    def other(self) -> "Direction":
        """The other way."""
        return Direction(1 - self)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `check` names what found it (docs/inspection.md lists all), `evidence` is redacted.

    offset: where in its direction's bytes (or, inside an object, in the decoded object) the finding ends.
    inside: the way to the object, outermost first: `body`, `body/docs.zip/a.txt`; empty for a protocol's own text.
    cuts: the flow ends with it; an alert is only told.
    """

    reason: DropReason
    check: str
    detail: str
    direction: Direction | None = None
    offset: int = 0
    protocol: str = ""
    inside: str = ""
    evidence: str = ""
    cuts: bool = True

    def at(self, direction: Direction | None, protocol: str, inside: str = "", offset: int = 0) -> "Finding":
        """Return the finding with its place filled in."""
        return replace(
            self, direction=direction, protocol=protocol, inside=inside or self.inside, offset=offset
        )


class Refusal(Exception):
    """A parser will not go on: the bytes are ambiguous, wrong, or too much.

    `check` names the rule that was broken; `detail` says what was expected and what came.
    """

    def __init__(self, check: str, detail: str, reason: DropReason = DropReason.PARSE_ERROR) -> None:
        super().__init__(f"{check}: {detail}")
        self.check, self.detail, self.reason = check, detail, reason

    def finding(self) -> Finding:
        """Return it as a finding, without a place yet."""
        return Finding(self.reason, self.check, self.detail)


class LimitHit(Refusal):
    """A limit was reached: which one, and its value."""

    def __init__(self, limit: str, value: int | float, detail: str = "") -> None:
        super().__init__(limit, f"more than {value:g}{detail}", DropReason.RESOURCE_LIMIT)
