"""Prepare what the virtual machines of a lab start from: settings disks, firmware with its golden copy, TPM keys."""

import asyncio
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Interface
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.portmap import PortEntry
from authn.signing import key_id
from vmhost.durable import write_durably, write_secret
from vmhost.errors import HostError
from vmhost.image.references import Image, profile_for
from vmhost.issue.peer_setup import CERTIFICATE, REFERENCES, machine_places
from vmhost.log import say
from vmhost.names import GATEWAY, QEMU_UID, TPM_UID, Lab
from vmhost.process import Rights
from vmhost.spec import LabSpec
from vmhost.vm.accelerator import Choice, choose
from vmhost.vm.domain import Change, Domain
from vmhost.vm.golden import sign_golden
from vmhost.vm.guest import VmGuest
from vmhost.vm.guest_line import ReportingGuest
from vmhost.vm.host import Host
from vmhost.vm.room import ensure_room
from vmhost.vm.settings import DIRECTORY, network_text, write_settings
from vmhost.vm.spec import Disk, VmSpec
from vmhost.vm.vtpm import KEY_SIZE, VtpmSpec

GUEST = "guest"
G = TypeVar("G", bound=VmGuest)
# the 2 MiB build: it starts in half the time of the 4 MiB one
FIRMWARE, VARIABLES = Path("/usr/share/OVMF/OVMF_CODE.fd"), Path("/usr/share/OVMF/OVMF_VARS.fd")
MEMORY_MIB = 512
# what the guest's first program and agent agree on
STATE_IN_GUEST, LINE_IN_GUEST = PurePosixPath("/var/lib/quotegate"), "/run/host-line"


@dataclass(frozen=True, slots=True)
class VmPaths:
    """Where the files of one VM are. All of them are root's."""

    lab: Lab
    name: str

    @property
    def directory(self) -> Path:
        """What stays over restarts."""
        return self.lab.state_dir / "vms" / self.name

    @property
    def settings(self) -> Path:
        """The settings disk."""
        return self.directory / "settings.tar"

    @property
    def disk(self) -> Path:
        """The boot disk: this VM's own copy of its image."""
        return self.directory / "boot.img"

    @property
    def root(self) -> Path:
        """The gateway's verified root; guests have none."""
        return self.directory / "root.img"

    @property
    def firmware(self) -> Path:
        """The firmware it starts from; checked against the golden copy each time."""
        return self.directory / "OVMF_CODE.fd"

    @property
    def variables(self) -> Path:
        """The firmware's own settings, which it writes."""
        return self.directory / "OVMF_VARS.fd"

    @property
    def tpm_key(self) -> Path:
        """The key of its TPM's state."""
        return self.directory / "tpm.key"

    @property
    def tpm_state(self) -> Path:
        """What its TPM keeps, encrypted; the TPM's own."""
        return self.directory / "tpm"

    @property
    def run_dir(self) -> Path:
        """Sockets and logs of the running VM."""
        return self.lab.run_dir / "vms" / self.name


def prepare_vms(spec: LabSpec, administrator: Ed25519PrivateKey) -> None:
    """Make each VM's directory with disk, firmware and key, and the golden firmware. Raises HostError."""
    if spec.images is None:
        return
    image = Image.load(spec.images, GUEST)
    for peer in spec.peers:
        prepare_vm(VmPaths(spec.lab, peer.peer), image)
    not_after = time.time() + spec.valid_days * 86400
    sign_golden(FIRMWARE, golden_dir(spec.lab), 1, not_after, administrator)


def prepare_vm(paths: VmPaths, image: Image) -> None:
    """Make a VM's directory with its own copies of disk and firmware, and its TPM's key; raises HostError."""
    for source in (FIRMWARE, VARIABLES, image.disk, image.uki):
        if not source.is_file():
            raise HostError("no-firmware", f"{source} is missing; run scripts/setup-images")
    paths.directory.mkdir(parents=True, mode=0o711)  # its TPM's uid passes through, to its own state
    for source, target in (
        (image.disk, paths.disk),
        (FIRMWARE, paths.firmware),
        (VARIABLES, paths.variables),
    ):
        copy_in(source, target)
    note_program(paths.directory, image.name, image.uki.read_bytes())
    write_secret(paths.tpm_key, os.urandom(KEY_SIZE))


def copy_in(source: Path, target: Path) -> None:
    """Copy a file that a VM starts from; raises HostError `no-space` when it does not fit."""
    ensure_room(target.parent, source.stat().st_size)
    shutil.copyfile(source, target)


def note_program(directory: Path, image: str, uki: bytes) -> None:
    """Note beside a boot disk which program it was made with: `quotegate-host vm evidence` compares. Raises OSError."""
    noted = json.dumps({"uki": hashlib.sha256(uki).hexdigest()})
    write_durably(directory / f"{image}.json", noted.encode())


def golden_dir(lab: Lab) -> Path:
    """Return where the golden copy of the firmware is."""
    return lab.state_dir / "golden"


def make_guests(
    spec: LabSpec, administrator: bytes, loop: asyncio.AbstractEventLoop
) -> dict[str, ReportingGuest]:
    """Describe the lab's VMs by name. `administrator` is the public key that signs the golden firmware."""
    guests: dict[str, ReportingGuest] = {}
    for number, peer in enumerate(spec.peers, 1):
        paths = VmPaths(spec.lab, peer.peer)
        disks = (Disk(paths.disk, readonly=True), Disk(paths.settings, readonly=True))
        guests[peer.peer] = vm_of(ReportingGuest, spec, peer, number, administrator, loop, disks, MEMORY_MIB)
    return guests


@cache
def accelerator() -> Choice:
    """Choose the accelerator of this host's VMs, once, and say which."""
    choice = choose(os.environ, Rights(QEMU_UID, QEMU_UID))
    say(f"virtual machines run under {choice.accelerator}: {choice.reason}")
    return choice


def vm_of(
    kind: type[G],
    spec: LabSpec,
    place: PortEntry,
    number: int,
    administrator: bytes,
    loop: asyncio.AbstractEventLoop,
    disks: tuple[Disk, ...],
    memory_mib: int,
    *,
    cpus: int = 1,
) -> G:
    """Describe one VM of the lab; its number gives it uids of its own."""
    paths, uid, tpm_uid = VmPaths(spec.lab, place.peer), QEMU_UID + number, TPM_UID + number
    namespace = spec.lab.host_namespace
    vm = VmSpec(
        name=place.peer,
        uuid=place.uuid,
        mac=place.mac,
        memory_mib=memory_mib,
        cpus=cpus,
        tap=place.port,
        namespace=namespace,
        firmware_code=paths.firmware,
        firmware_vars=paths.variables,
        accelerator=accelerator().accelerator,
        run_dir=paths.run_dir,
        tpm_socket=paths.run_dir / "swtpm.ctrl",
        uid=uid,
        gid=uid,
        disks=disks,
        host_link=True,
    )
    log = spec.lab.run_dir / "log" / f"swtpm-{place.peer}.log"
    tpm = VtpmSpec(place.peer, namespace, paths.tpm_state, vm.tpm_socket, log, Rights(tpm_uid, tpm_uid), uid)
    keys = {key_id(administrator): administrator}
    host = Host(golden_dir(spec.lab), keys, tpm, paths.tpm_key.read_bytes, time.time)
    return kind(Domain(vm, host, _log_change), tpm, paths.tpm_key.read_bytes, loop)


def _log_change(change: Change) -> None:
    reason = f": {change.reason}" if change.reason else ""
    say(f"VM {change.name} is {change.state}{reason}")


def write_vm_settings(
    spec: LabSpec, peer: PortEntry, setup: Mapping[str, Any], references: bytes, certificate: bytes
) -> None:
    """Write a VM's settings disk: the setup of a namespace's peer, with the paths a guest has."""
    inside = {
        **setup,
        **machine_places(PurePosixPath(DIRECTORY), STATE_IN_GUEST, (REFERENCES,)),
        "profile": profile_for(GUEST).to_json(),
        "monitor_socket": None,
        "host_line": LINE_IN_GUEST,
    }
    if spec.gateway_vm:
        inside["gateway_profile"] = profile_for(GATEWAY, verified_root=True).to_json()
    network = network_text(peer, IPv4Interface(f"{spec.gateway.ip}/{spec.network.prefixlen}"))
    files = {REFERENCES: references, CERTIFICATE: certificate}
    write_settings(VmPaths(spec.lab, peer.peer).settings, inside, network, files)
