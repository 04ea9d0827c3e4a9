"""Prepare what the gateway's VM starts from: root, settings and state disks."""

import asyncio
from collections.abc import Mapping
from functools import partial
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from authn.state_policy import Approval
from vmhost.durable import write_durably
from vmhost.errors import HostError
from vmhost.image.references import Image, profile_for
from vmhost.lab.vms import VmPaths, copy_in, prepare_vm, vm_of
from vmhost.log import say
from vmhost.monitor.health import is_healthy
from vmhost.names import GATEWAY, Lab
from vmhost.spec import LabSpec
from vmhost.update.slots import Slot, Slots
from vmhost.vm.gateway import GatewayVm
from vmhost.vm.settings import network_text, pack_files, pack_settings, unpack_settings
from vmhost.vm.spec import Disk

MEMORY_MIB, CPUS = 768, 2  # its programs start side by side
MORE_MEMORY_MIB = 128  # for each further inspector
STATE_SIZE = 512 << 20  # sparse
HOSTLINK_UID = 64105  # who speaks for the host inside
DIRECTORY = "/run/config"
BOOT_DISK, ROOT_DISK, SETTINGS_DISK = "boot.img", "root.img", "settings.tar"
OWN_REFERENCES = "own_references.json"
_MATERIAL = "material/"
MOST_MATERIAL = 128 << 20  # of the operator's files: the machine has them in memory
FIRST_VERSION = 1  # of the image that a lab comes up with
# what the gateway's units agree on
_RUN = "/run/quotegate"
IN_GATEWAY: Mapping[str, Any] = {
    "portmap": f"{DIRECTORY}/portmap.json",
    "references": [f"{DIRECTORY}/references.json"],
    "ek_roots": [f"{DIRECTORY}/ek_ca.pem"],
    "approval": f"{DIRECTORY}/approval.json",
    "tpm": "device:/dev/tpmrm0",
    "event_log": "/run/event_log",
    "policy": f"{DIRECTORY}/policy.toml",
    "sockets": {
        "netd": f"{_RUN}/netd/netd.sock",
        "tpmd": f"{_RUN}/tpmd/tpmd.sock",
        "api": f"{_RUN}/quotegated/api.sock",
        "monitor": f"{_RUN}/hostlink/monitor.sock",
        "inspectors": f"{_RUN}/quotegated/inspectors.sock",
    },
    "state_dir": "/var/lib/quotegate",
    "allowed_uids": [0, HOSTLINK_UID],
}


def slot_directory(lab: Lab, slot: Slot) -> Path:
    """Return where a slot's disks are: slot A's where a VM without slots has them."""
    directory = VmPaths(lab, GATEWAY).directory
    return directory if slot is Slot.A else directory / slot


def slots_file(lab: Lab) -> Path:
    """Return where the state of the slots is."""
    return VmPaths(lab, GATEWAY).directory / "slots.json"


def disks_of(lab: Lab, slot: Slot) -> tuple[Disk, ...]:
    """Return the disks of a slot, and the one of the state, which both have."""
    directory = slot_directory(lab, slot)
    measured = (Disk(directory / name, readonly=True) for name in (BOOT_DISK, ROOT_DISK, SETTINGS_DISK))
    return (*measured, Disk(VmPaths(lab, GATEWAY).directory / "state.img", readonly=False))


def refresh_settings(lab: Lab, slot: Slot) -> None:
    """Bring a slot's settings disk up to date with the operator's files; what can't be taken stays as it was."""
    path = slot_directory(lab, slot) / SETTINGS_DISK
    try:
        packed = path.read_bytes()
        others = {
            name: data for name, data in unpack_settings(packed).items() if not name.startswith(_MATERIAL)
        }
        fresh = pack_files({**others, **material_files(lab)})
        if fresh != packed:
            write_durably(path, fresh)
    except (OSError, ValueError) as error:
        say(
            f"{lab.material}: the gateway starts with your files as it had them: {error}; mend that, restart it"
        )


def material_files(lab: Lab) -> dict[str, bytes]:
    """Read the operator's files for inspectors, as settings disks have them; raises OSError, ValueError when it is too much."""
    if not lab.material.is_dir():
        return {}
    found = [one for one in sorted(lab.material.iterdir()) if one.is_file()]
    size = sum(one.stat().st_size for one in found)
    if size > MOST_MATERIAL:
        raise ValueError(f"{lab.material}: expected at most {MOST_MATERIAL} bytes of files, got {size}")
    return {f"{_MATERIAL}{one.name}": one.read_bytes() for one in found}


def prepare_gateway(spec: LabSpec) -> None:
    """Make the gateway VM's directory; raises HostError."""
    if spec.images is None or not spec.gateway_vm:
        return
    image = Image.load(spec.images, GATEWAY)
    root = image.disk.with_suffix(".root")
    if not root.is_file():
        raise HostError("no-image", f"{root} is missing; build it: quotegate image build {GATEWAY}")
    paths = VmPaths(spec.lab, GATEWAY)
    prepare_vm(paths, image)
    copy_in(root, paths.root)
    with (paths.directory / "state.img").open("xb") as file:
        file.truncate(STATE_SIZE)
    (paths.directory / "state.img").chmod(0o600)
    write_durably(slots_file(spec.lab), Slots.first(FIRST_VERSION).to_json().encode())


def make_gateway(spec: LabSpec, administrator: bytes, loop: asyncio.AbstractEventLoop) -> GatewayVm:
    """Describe the gateway's VM."""
    disks, memory = disks_of(spec.lab, Slot.A), MEMORY_MIB + MORE_MEMORY_MIB * (spec.inspectors - 1)
    cpus = max(CPUS, spec.inspectors + 1)  # one is left for the others
    gateway = vm_of(GatewayVm, spec, spec.gateway, 0, administrator, loop, disks, memory, cpus=cpus)
    gateway.api_socket, gateway.answers = spec.lab.api_socket, is_healthy
    gateway.refresh = partial(refresh_settings, spec.lab)
    gateway.disks_of = partial(disks_of, spec.lab)
    return gateway


def write_gateway_settings(spec: LabSpec, setup: Mapping[str, Any], shared: Path, approval: Approval) -> None:
    """Write the first slot's settings disk; raises OSError, ValueError."""
    write_durably(
        slot_directory(spec.lab, Slot.A) / SETTINGS_DISK, gateway_settings(spec, setup, shared, approval)
    )


def gateway_settings(
    spec: LabSpec,
    setup: Mapping[str, Any],
    shared: Path,
    approval: Approval,
    own_references: bytes | None = None,
) -> bytes:
    """Return a slot's settings disk: the setup of a namespace's gateway, with the paths that the VM has.

    `own_references` is the signed set of the slot's image, for peers that were provisioned before it was built. With it go
    all files of the operator's. Raises OSError, ValueError.
    """
    inside = {**setup, **IN_GATEWAY, "gateway_profile": profile_for(GATEWAY, verified_root=True).to_json()}
    names = ("portmap.json", "references.json", "ek_ca.pem", "policy.toml")
    files = {name: (shared / name).read_bytes() for name in names}
    files["approval.json"] = approval.to_json().encode()
    if own_references is not None:
        inside["own_references"] = f"{DIRECTORY}/{OWN_REFERENCES}"
        files[OWN_REFERENCES] = own_references
    files |= material_files(spec.lab)
    network = network_text(spec.gateway, IPv4Interface(f"{spec.gateway.ip}/{spec.network.prefixlen}"))
    network += f"INSPECTORS={spec.inspectors}\n"
    return pack_settings(inside, network, files)
