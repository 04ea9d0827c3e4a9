"""What a rule's `inspect` asks for."""

from dataclasses import dataclass, field
from enum import StrEnum

DETECTORS = ("secrets", "personal", "malware", "marks", "patterns")
PROTOCOLS = ("http", "tls", "dns", "smtp", "ssh")


class Hold(StrEnum):
    """What waits until it is judged: what was read at once, or the object as a whole."""

    PIECE = "piece"
    OBJECT = "object"


class OnError(StrEnum):
    """What happens to a flow that can't be inspected."""

    DROP = "drop-flow"
    PASS = "pass"  # noqa: S105 - no password


@dataclass(frozen=True, slots=True)
class InspectionSpec:
    """How a flow is inspected. `on_error` is about parse errors and limits; findings always end a flow.

    protocol: the one protocol that may be spoken, or None for any that the bytes show.
    allow_types, deny_types: media types and families (docs/inspection.md); an empty `allow_types` allows all.
    """

    detectors: frozenset[str] = frozenset({"secrets", "malware"})
    protocol: str | None = None
    hold: Hold = Hold.PIECE
    on_error: OnError = OnError.DROP
    allow_types: frozenset[str] = field(default_factory=frozenset)
    deny_types: frozenset[str] = field(default_factory=frozenset)
    partial_objects: bool = False

    @property
    def wants_objects(self) -> bool:
        """Tell whether objects have to be whole to be judged."""
        return bool(
            self.allow_types or self.deny_types or "malware" in self.detectors or self.hold is Hold.OBJECT
        )
