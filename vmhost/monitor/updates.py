"""What an operator may do to the image of a lab's gateway. It blocks: call it in threads, with the gateway to oneself."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vmhost.errors import HostError
from vmhost.lab.gateway_slots import LabSlots, checked_update, demand_start
from vmhost.spec import LabSpec
from vmhost.update.bundle import Bundle
from vmhost.update.keeper import SlotKeeper
from vmhost.update.slots import Slot


@dataclass(frozen=True, slots=True)
class GatewayUpdates:
    """Updates of one lab's gateway; without an image of its own everything is refused (`not-a-vm`)."""

    spec: LabSpec
    keeper: SlotKeeper

    @classmethod
    def of(cls, spec: LabSpec) -> "GatewayUpdates":
        """Describe those of a lab."""
        return cls(spec, SlotKeeper(LabSlots(spec)))

    def check(self, directory: str) -> dict[str, Any]:
        """Check an update; changes nothing. Raises HostError with the first check that fails."""
        bundle = self._checked(directory)
        return {"version": bundle.version, "not_after": bundle.manifest.not_after}

    def install(self, directory: str, tries: int, within_s: float) -> int:
        """Check an update and make it the candidate; return its version. Raises HostError."""
        bundle = self._checked(directory)
        demand_start(self.spec)
        self.keeper.install(bundle, tries, within_s)
        return bundle.version

    def roll_back(self, tries: int, within_s: float) -> int:
        """Make the former image the candidate; return its version. Raises HostError."""
        self._demand_vm()
        demand_start(self.spec)
        self.keeper.roll_back(tries, within_s)
        slots = self.keeper.slots
        return slots[slots.active.other].version

    def status(self) -> dict[str, Any]:
        """Describe the slots."""
        self._demand_vm()
        slots = self.keeper.slots
        described = {str(slot): asdict(slots[slot]) for slot in Slot}
        version = slots[slots.active].version
        return {"active": str(slots.active), "version": version, "least": slots.least, "slots": described}

    def check_commit(self) -> None:
        """Refuse to make the active image's version the least while another is being tried; raises HostError.

        A blessing that is not on the disk has to get there first: the next start would try the image to which the TPM
        does not open the state any more.
        """
        self._demand_vm()
        self.keeper.save_again()
        candidate = self.keeper.slots.candidate
        if candidate is not None:
            raise HostError(
                "update-pending",
                f"slot {candidate} has a candidate: see how it ends first: quotegate update status",
            )

    def _checked(self, directory: str) -> Bundle:
        self._demand_vm()
        return checked_update(self.spec, self.keeper.slots, Path(directory))

    def _demand_vm(self) -> None:
        if not self.spec.gateway_vm:
            raise HostError(
                "not-a-vm",
                "this lab's gateway has no image: expected a virtual machine; quotegate lab up --vm",
            )
