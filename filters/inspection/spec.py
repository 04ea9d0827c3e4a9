"""What a rule's `inspect` asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

DETECTORS = ("secrets", "personal", "malware", "marks", "patterns", "clamd", "fingerprints", "rules")
PROTOCOLS = ("http", "tls", "dns", "smtp", "ssh")
OBJECT_FAMILIES = ("executable", "script", "archive", "document", "image", "audio", "video", "font", "text")


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
    """How a flow is inspected. `on_error` is about what could not be read to its end (parse errors, limits, an
    inspector that is slow or gone); other findings end a flow, unless they are alerts.

    protocol: the one protocol that may be spoken, or None for any that the bytes show.
    allow_types, deny_types: media types and families (docs/inspection.md); an empty `allow_types` allows all.
    offload_after: bytes of a connection, both directions together, that are inspected before the kernel carries the
        rest unseen; 0: all are inspected.
    """

    detectors: frozenset[str] = frozenset({"secrets", "malware"})
    protocol: str | None = None
    hold: Hold = Hold.PIECE
    on_error: OnError = OnError.DROP
    allow_types: frozenset[str] = field(default_factory=frozenset)
    deny_types: frozenset[str] = field(default_factory=frozenset)
    partial_objects: bool = False
    offload_after: int = 0

    def to_json(self) -> dict[str, object]:
        """Write what `from_json` reads."""
        return {
            "detectors": sorted(self.detectors),
            "protocol": self.protocol,
            "hold": self.hold,
            "on_error": self.on_error,
            "allow_types": sorted(self.allow_types),
            "deny_types": sorted(self.deny_types),
            "partial_objects": self.partial_objects,
            "offload_after": self.offload_after,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "InspectionSpec":
        """Read a spec that `to_json` wrote; raises KeyError, ValueError."""
        return cls(
            frozenset(data["detectors"]),
            data["protocol"],
            Hold(data["hold"]),
            OnError(data["on_error"]),
            frozenset(data["allow_types"]),
            frozenset(data["deny_types"]),
            bool(data["partial_objects"]),
            int(data["offload_after"]),
        )

    def __str__(self) -> str:
        """Say it in a few words."""
        words = [", ".join(sorted(self.detectors)) or "no detector"]
        words += [f"only {self.protocol}"] if self.protocol else []
        words += ["whole objects are held"] if self.hold is Hold.OBJECT else []
        words += [f"denied: {', '.join(sorted(self.deny_types))}"] if self.deny_types else []
        words += [f"allowed: {', '.join(sorted(self.allow_types))}"] if self.allow_types else []
        words += [f"unseen after {self.offload_after} bytes"] if self.offload_after else []
        return "; ".join(words)

    @property
    def wants_objects(self) -> bool:
        """Tell whether objects have to be whole to be judged."""
        judged = {"malware", "clamd", "fingerprints"} & self.detectors
        return bool(judged or self.allow_types or self.deny_types or self.hold is Hold.OBJECT)
