"""Say what a quote must prove: which PCRs, against which reference values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authn.errors import AuthnError
from authn.ima import IMA_PCR
from authn.layers import OWN_TPM
from authn.pcr import HashAlg, PcrSelection

RESETTABLE = frozenset({16, 23})
IMA_PREFIX = "ima:"


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile; `references` names the reference value of every selected PCR.

    PCR 10 may refer to `ima:NAME`: any order of the files that the reference value NAME lists. `layers` are the
    layers of evidence that must be there and good.
    """

    id: str
    selection: PcrSelection
    references: Mapping[int, str]
    layers: tuple[str, ...] = (OWN_TPM,)

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
        misplaced = [
            index
            for index, name in self.references.items()
            if name.startswith(IMA_PREFIX) and index != IMA_PCR
        ]
        if misplaced:
            raise AuthnError(
                "misplaced-ima",
                f"profile {self.id}: PCR {misplaced} refers to an IMA list; the kernel measures files into PCR {IMA_PCR}",
            )

    @property
    def ima_reference(self) -> str | None:
        """Return the name of the reference value with the files that may be measured; None: no list is looked at."""
        name = self.references.get(IMA_PCR, "")
        return name.removeprefix(IMA_PREFIX) if name.startswith(IMA_PREFIX) else None

    @classmethod
    def of(
        cls,
        name: str,
        references: Mapping[int, str],
        *,
        layers: tuple[str, ...] = (OWN_TPM,),
    ) -> "Profile":
        """Build a SHA-256 profile from its references."""
        return cls(name, PcrSelection.of(references), dict(references), layers)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Profile":
        """Read what `to_json` writes; raises AuthnError."""
        references = {int(index): str(name) for index, name in data["references"].items()}
        selection = PcrSelection.of(references, HashAlg[str(data["bank"]).upper()])
        layers = tuple(str(name) for name in data.get("layers", (OWN_TPM,)))
        return cls(str(data["id"]), selection, references, layers)

    def to_json(self) -> dict[str, Any]:
        """Write `{id, bank, references: {index: name}, layers}`."""
        return {
            "id": self.id,
            "bank": self.selection.bank.name.lower(),
            "references": {str(index): name for index, name in sorted(self.references.items())},
            "layers": list(self.layers),
        }
