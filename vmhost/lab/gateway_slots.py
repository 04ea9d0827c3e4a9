"""The gateway's slots on the lab's disk, and the check of an update against what is in force."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from authn.signing import key_id
from vmhost.durable import sync_directory, sync_file, write_durably
from vmhost.errors import HostError
from vmhost.image.approve import public_hex
from vmhost.image.esp import read_program
from vmhost.lab.gateway_vm import (
    BOOT_DISK,
    ROOT_DISK,
    SETTINGS_DISK,
    gateway_settings,
    slot_directory,
    slots_file,
)
from vmhost.lab.provisioning import LabPaths, load_administrator_key, load_authority_key
from vmhost.lab.vms import golden_dir, note_program
from vmhost.names import GATEWAY
from vmhost.spec import LabSpec
from vmhost.update.bundle import Bundle, InForce, check_bundle, compare, measure, open_bundle
from vmhost.update.manifest import BOOT, ROOT
from vmhost.update.slots import Slot, Slots
from vmhost.vm.golden import verify_golden
from vmhost.vm.room import ensure_room

STATE_ROOM = 1 << 20  # for the state of the slots


@dataclass(frozen=True, slots=True)
class LabSlots:
    """See `vmhost.update.keeper.SlotStore`."""

    spec: LabSpec

    def load(self) -> Slots:
        """Read the state; raises HostError."""
        path = slots_file(self.spec.lab)
        try:
            return Slots.from_json(path.read_bytes())
        except OSError as error:
            raise HostError(
                "bad-slots", f"{path}: {error.strerror}; nothing was started: restore this file"
            ) from error

    def save(self, slots: Slots) -> None:
        """Write the state in one step; raises HostError."""
        path = slots_file(self.spec.lab)
        try:
            write_durably(path, slots.to_json().encode())
        except OSError as error:
            raise HostError(
                "slots-not-saved",
                f"{path}: writing the state of the gateway's slots: {error}; free space there",
            ) from error

    def check_room(self, slot: Slot, bundle: Bundle) -> None:
        """Make sure that an update's files fit where those of the slot are now, and its settings beside the former ones.

        Raises HostError.
        """
        directory, files = slot_directory(self.spec.lab, slot), bundle.manifest.files
        more = sum(
            max(0, files[name].size - _size(directory / disk))
            for name, disk in ((BOOT, BOOT_DISK), (ROOT, ROOT_DISK))
        )
        try:
            more += len(self._settings(bundle)) + STATE_ROOM
        except (OSError, ValueError) as error:
            raise HostError(
                "slot-failed",
                f"{self.spec.lab.material}: packing the gateway's settings with the operator's files: {error}; nothing was "
                "changed, the way back is kept: mend or rename that file, apply it again",
            ) from error
        try:
            ensure_room(slots_file(self.spec.lab).parent, more)
        except HostError as error:
            raise HostError(
                "slot-failed",
                f"{directory}: checked free space for the update: expected {more} bytes more; nothing was "
                "changed, the way back is kept: free space, apply it again",
            ) from error

    def fill(self, slot: Slot, bundle: Bundle) -> None:
        """Copy an update into a slot, with a settings disk of its own; what was copied is what is compared."""
        directory, manifest = slot_directory(self.spec.lab, slot), bundle.manifest
        try:
            directory.mkdir(exist_ok=True, mode=0o700)
            for name, disk in ((BOOT, BOOT_DISK), (ROOT, ROOT_DISK)):
                shutil.copyfile(bundle.directory / name, directory / disk)
                sync_file(directory / disk)
                compare(bundle.directory / name, manifest.files[name], measure(directory / disk))
            note_program(directory, GATEWAY, read_program(directory / BOOT_DISK))
            write_durably(directory / SETTINGS_DISK, self._settings(bundle))
            sync_directory(directory)
        except (OSError, ValueError) as error:  # a tar has no room for a name of 256 bytes
            raise HostError(
                "slot-failed",
                f"{directory}: writing the update: {error}; the slot stays empty: free space, apply it again",
            ) from error

    def _settings(self, bundle: Bundle) -> bytes:
        """Return an update's settings disk; raises OSError, ValueError."""
        paths, manifest = LabPaths(self.spec.lab), bundle.manifest
        setup = json.loads(paths.gateway_setup.read_text())
        return gateway_settings(self.spec, setup, paths.shared, manifest.approval, manifest.references)


def _size(path: Path) -> int:
    """Return the size of a file that is to be written over; 0 without one."""
    return path.stat().st_size if path.is_file() else 0


def checked_update(spec: LabSpec, slots: Slots, directory: Path) -> Bundle:
    """Open an update and check all of it against what is in force; raises HostError."""
    authority = public_hex(load_authority_key(spec.lab.authority_key).public_key())
    now = InForce(slots[slots.active].version, slots.least, _administrator(spec), authority)
    bundle = open_bundle(directory, now.keys, time.time())
    check_bundle(bundle, now, time.time())
    return bundle


def demand_start(spec: LabSpec) -> None:
    """Refuse to stop a gateway that could not be started again for its firmware's golden copy; raises HostError."""
    verify_golden(golden_dir(spec.lab), _administrator(spec), time.time())


def _administrator(spec: LabSpec) -> dict[str, bytes]:
    public = load_administrator_key(spec.lab).public_key().public_bytes_raw()
    return {key_id(public): public}
