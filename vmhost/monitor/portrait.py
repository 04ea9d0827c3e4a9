"""Describe virtual machines for their operator: what runs, and what was measured before it started."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from authn.portmap import PortEntry
from vmhost.errors import HostError
from vmhost.image.esp import read_program
from vmhost.lab.vms import GUEST, accelerator
from vmhost.names import GATEWAY
from vmhost.vm.domain import Domain, Measured
from vmhost.vm.guest import VmGuest
from vmhost.vm.spec import VmSpec

UNCHANGED, CHANGED, MISSING = "unchanged", "changed", "missing"


def accelerator_json() -> dict[str, str]:
    """Say who runs the guests' instructions, and why."""
    choice = accelerator()
    return {"name": str(choice.accelerator), "reason": choice.reason}


def describe(guest: VmGuest, place: PortEntry, kept_off: str) -> dict[str, Any]:
    """Describe one VM. `kept_off`: why it stays off, or "". `since`: of its state, in seconds since the epoch."""
    domain, pids = guest.domain, guest.pids()
    return {
        "name": guest.name,
        "state": str(domain.state),
        "reason": domain.reason,
        "kept_off": bool(kept_off),
        "kept_off_because": kept_off,
        "since": domain.since,
        "accelerator": str(domain.spec.accelerator),
        "uid": domain.spec.uid,
        "pid": pids.get("qemu"),
        "tpm_pid": pids.get("swtpm"),
        "tap": domain.spec.tap,
        "mac": domain.spec.mac,
        "ip": str(place.ip),
        "console": str(domain.spec.console_log),
    }


def evidence(domain: Domain, images: Path | None) -> dict[str, Any]:
    """Say what was measured before the last start, and what became of those files since; raises HostError."""
    spec, measured = domain.spec, domain.measured
    if measured is None:
        raise HostError(
            "never-started",
            f"VM {spec.name}: expected what was measured before its last start, got none: it is {domain.state} "
            f"{domain.reason}".rstrip(),
        )
    files = [
        {"path": str(path), "sha256": digest, "now": _compare(path, digest)}
        for path, digest in measured.digests.items()
    ]
    return {
        "name": spec.name,
        "measured_at": measured.at,
        "firmware": {"path": str(spec.firmware_code), **asdict(measured.firmware)},
        "files": files,
        "kernel_image": _kernel_image(spec, measured, images),
        "not_measured": [str(spec.firmware_vars), *(str(one.path) for one in spec.disks if not one.readonly)],
        "console": str(spec.console_log),
    }


def _compare(path: Path, digest: str) -> str:
    try:
        with path.open("rb") as file:
            return UNCHANGED if hashlib.file_digest(file, "sha256").hexdigest() == digest else CHANGED
    except OSError:
        return MISSING


def _kernel_image(spec: VmSpec, measured: Measured, images: Path | None) -> dict[str, Any] | None:
    """Hash the program on the boot disk, None where there is none to be read; None once that disk is not what was measured."""
    if (
        not spec.disks
        or _compare(spec.disks[0].path, measured.digests.get(spec.disks[0].path, "")) != UNCHANGED
    ):
        return None
    disk, image = spec.disks[0].path, GATEWAY if spec.name == GATEWAY else GUEST
    try:
        digest = hashlib.sha256(read_program(disk)).hexdigest()
    except (HostError, OSError):  # it is no file system, for example: that is what is to be told
        return {"sha256": None, "image": image, "as_built": False}
    # the image it was installed from is noted beside the disk: another may have been built since, or elsewhere
    built = [_built(directory, image) for directory in (disk.parent, images) if directory is not None]
    return {"sha256": digest, "image": image, "as_built": digest == next(filter(None, built), None)}


def _built(directory: Path, image: str) -> str:
    """Return what an image's manifest, or what was noted of it, says of its program; "" without one."""
    try:
        return str(json.loads((directory / f"{image}.json").read_text())["uki"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
