"""Have what is signed for a lab that was kept hold for longer: the same documents with another end, by the administrator.

The lab is down. While the work is under way a mark says so: what was cut short is not started, and done anew as a whole.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.errors import AuthnError
from authn.portmap import KIND as PORTMAP
from authn.reference import KIND as REFERENCES
from authn.signing import AT_ANY_TIME, renew_document, verify_document
from vmhost.durable import sync_directory, write_durably
from vmhost.errors import HostError
from vmhost.lab.gateway_slots import LabSlots
from vmhost.lab.gateway_vm import OWN_REFERENCES, SETTINGS_DISK, slot_directory
from vmhost.lab.kept import kept_copy, spec_file, write_spec
from vmhost.lab.provisioning import LabPaths, load_administrator_key
from vmhost.lab.vms import VmPaths, golden_dir
from vmhost.names import Lab
from vmhost.signing_key import public_keys
from vmhost.spec import LabSpec
from vmhost.update.slots import Slot
from vmhost.vm.golden import DOCUMENT as FIRMWARE_DOCUMENT
from vmhost.vm.golden import KIND as FIRMWARE
from vmhost.vm.settings import SETUP, pack_files, unpack_settings

_KINDS = {"portmap.json": PORTMAP, "references.json": REFERENCES, OWN_REFERENCES: REFERENCES}


@dataclass(frozen=True, slots=True)
class Signers:
    """Who may have signed a lab's documents: public keys by id, as the gateway's setup has them; and who signs them now."""

    keys: Mapping[str, bytes]
    administrator: Ed25519PrivateKey

    @classmethod
    def of(cls, lab: Lab) -> "Signers":
        """Read them from what a lab was given; raises HostError, OSError, ValueError, KeyError, TypeError, AttributeError."""
        setup = json.loads(kept_copy(lab, LabPaths(lab).gateway_setup).read_text())
        administrator = load_administrator_key(lab)
        known = {**setup["portmap_keys"], **setup["reference_keys"], **public_keys(administrator)}
        return cls({name: bytes.fromhex(key) for name, key in known.items()}, administrator)

    def end(self, document: bytes, kind: str) -> float:
        """Return until when a document holds (s since the epoch); raises DocumentError."""
        return verify_document(document, kind, self.keys, AT_ANY_TIME).not_after

    def renewed(self, document: bytes, kind: str, not_after: float) -> bytes:
        """Sign a document with another end; raises DocumentError."""
        return renew_document(document, kind, self.keys, not_after, self.administrator)


def valid_until(spec: LabSpec) -> float:
    """Return until when everything holds that a kept lab is started with (s since the epoch); raises HostError."""
    path = spec.lab.state_dir
    try:
        signers = Signers.of(spec.lab)
        path = golden_dir(spec.lab) / FIRMWARE_DOCUMENT
        ends = [signers.end(path.read_bytes(), FIRMWARE)]
        path = slot_directory(spec.lab, LabSlots(spec).load().active) / SETTINGS_DISK
        files = unpack_settings(path.read_bytes())
        return min(*ends, *(signers.end(files[name], kind) for name, kind in _KINDS.items() if name in files))
    except _UNREADABLE as error:
        raise HostError(
            "bad-state", f"{path}: reading until when it holds: {error}; nothing was started: restore it"
        ) from error


def demand_valid(spec: LabSpec) -> None:
    """Refuse to start what ran out or was renewed in part; raises HostError `expired`, `bad-state`."""
    again = f"quotegate lab resume --days 30 --lab {spec.lab.name}"
    if _mark(spec.lab).exists():
        raise HostError(
            "expired",
            f"lab {spec.lab.name}: its signed documents were being renewed, and that was cut short; nothing was started: "
            f"once more: {again}",
        )
    until, now = valid_until(spec), time.time()
    if now > until:
        ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(until))
        raise HostError(
            "expired",
            f"lab {spec.lab.name}: looked at what is signed for it (port map, reference values, firmware): expected that it "
            f"holds, got one that ran out on {ended}; nothing was started: sign it anew for 30 days: {again}",
        )


def renew(spec: LabSpec, days: int) -> LabSpec:
    """Have everything hold for so many days from now; return the lab as it is then. Raises HostError: once more, please."""
    lab, path = spec.lab, spec.lab.state_dir
    not_after = time.time() + days * 86400
    try:
        write_durably(_mark(lab), b"")
        signers = Signers.of(lab)
        for path, kind in _documents(lab):
            write_durably(path, signers.renewed(path.read_bytes(), kind, not_after))
        for path in _disks(spec):
            write_durably(
                path, _renewed_disk(path.read_bytes(), signers, not_after), path.stat().st_mode & 0o777
            )
        path = kept_copy(lab, LabPaths(lab).gateway_setup)
        write_durably(path, _renewed_setup(path.read_bytes(), signers))
        renewed, path = replace(spec, valid_days=days), spec_file(lab.kept_dir)
        write_spec(path, renewed)
        _mark(lab).unlink()
        sync_directory(lab.state_dir)
    except _UNREADABLE as error:
        raise HostError(
            "not-renewed",
            f"{path}: signing it anew: {error}; nothing was started: free space, or restore it, then once more: "
            f"quotegate lab resume --days {days} --lab {lab.name}",
        ) from error
    return renewed


_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, AuthnError)


def _mark(lab: Lab) -> Path:
    return lab.state_dir / "renewing"


def _documents(lab: Lab) -> Iterator[tuple[Path, str]]:
    shared = kept_copy(lab, LabPaths(lab).shared)
    yield golden_dir(lab) / FIRMWARE_DOCUMENT, FIRMWARE
    yield from ((shared / name, kind) for name, kind in _KINDS.items() if (shared / name).exists())


def _disks(spec: LabSpec) -> Iterator[Path]:
    """Name the settings disks of all guests, and of the gateway's slots that have one."""
    yield from (VmPaths(spec.lab, peer.peer).settings for peer in spec.peers)
    slots = (slot_directory(spec.lab, slot) / SETTINGS_DISK for slot in Slot)
    yield from (path for path in slots if path.exists())


def _renewed_disk(packed: bytes, signers: Signers, not_after: float) -> bytes:
    files = unpack_settings(packed)
    for name, kind in _KINDS.items():
        if name in files:
            files[name] = signers.renewed(files[name], kind, not_after)
    return pack_files({**files, SETUP: _renewed_setup(files[SETUP], signers)})


def _renewed_setup(content: bytes, signers: Signers) -> bytes:
    """Let a gateway take the port map that the administrator signed; guests take reference values by that key already."""
    setup: dict[str, Any] = json.loads(content)
    if "portmap_keys" in setup:
        setup["portmap_keys"] = public_keys(signers.administrator)
    return json.dumps(setup, indent=1).encode() + b"\n"
