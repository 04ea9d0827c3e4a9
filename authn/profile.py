"""Say what a quote must prove: which PCRs, against which reference values, how fresh."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authn.errors import AuthnError
from authn.pcr import HashAlg, PcrSelection

RESETTABLE = frozenset({16, 23})


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile; `references` names the reference value of every selected PCR."""

    id: str
    selection: PcrSelection
    references: Mapping[int, str]
    require_nonzero: bool = False

    def __post_init__(self) -> None:
        resettable = RESETTABLE & set(self.selection.indices)
        if resettable:
            raise AuthnError(
                "resettable-pcr",
                f"profile {self.id}: PCR {sorted(resettable)} can be reset by the guest itself",
            )
        missing = set(self.selection.indices) ^ set(self.references)
        if missing:
            raise AuthnError(
                "incomplete-profile",
                f"profile {self.id}: PCR {sorted(missing)} needs selection and reference",
            )

    @classmethod
    def of(cls, name: str, references: Mapping[int, str], *, require_nonzero: bool = False) -> "Profile":
        """Build a SHA-256 profile from its references."""
        return cls(name, PcrSelection.of(references), dict(references), require_nonzero)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Profile":
        """Read `{id, bank, references: {index: name}, require_nonzero}`; raises AuthnError."""
        references = {int(index): str(name) for index, name in data["references"].items()}
        selection = PcrSelection.of(references, HashAlg[str(data["bank"]).upper()])
        return cls(str(data["id"]), selection, references, bool(data.get("require_nonzero", False)))

    def to_json(self) -> dict[str, Any]:
        """Write what `from_json` reads."""
        return {
            "id": self.id,
            "bank": self.selection.bank.name.lower(),
            "references": {str(index): name for index, name in sorted(self.references.items())},
            "require_nonzero": self.require_nonzero,
        }
