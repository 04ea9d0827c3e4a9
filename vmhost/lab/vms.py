"""Prepare what the virtual machines of a lab start from: settings disks, firmware with its golden copy, TPM keys."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from authn.portmap import PortEntry
from vmhost.errors import HostError
from vmhost.image.references import Image, profile_for
from vmhost.names import Lab
from vmhost.spec import LabSpec
from vmhost.vm.settings import DIRECTORY, network_text, write_settings

GUEST = "guest"
# the 2 MiB build: it starts in half the time of the 4 MiB one
FIRMWARE, VARIABLES = Path("/usr/share/OVMF/OVMF_CODE.fd"), Path("/usr/share/OVMF/OVMF_VARS.fd")
KEY_SIZE = 32
# what the guest's first program and agent agree on
IN_GUEST: Mapping[str, str | None] = {
    "references": None,
    "tpm": "device:/dev/tpmrm0",
    "event_log": "/sys/kernel/security/tpm0/binary_bios_measurements",
    "ima_list": "/sys/kernel/security/ima/binary_runtime_measurements",
    "ek_certificate": f"{DIRECTORY}/ek_certificate.der",
    "state_dir": "/var/lib/quotegate",
    "control_socket": "/run/quotegate-agent/agent.sock",
    "monitor_socket": None,
}


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
    def run_dir(self) -> Path:
        """Sockets and logs of the running VM."""
        return self.lab.run_dir / "vms" / self.name


def prepare_vms(spec: LabSpec) -> Image | None:
    """Make each VM's directory with disk, firmware and key; return the guests' image. Raises HostError."""
    if spec.images is None:
        return None
    image = Image.load(spec.images, GUEST)
    for source in (FIRMWARE, VARIABLES, image.disk):
        if not source.is_file():
            raise HostError("no-firmware", f"{source} is missing; run scripts/setup-images")
    for peer in spec.peers:
        paths = VmPaths(spec.lab, peer.peer)
        paths.directory.mkdir(parents=True, mode=0o700)
        for source, target in (
            (image.disk, paths.disk),
            (FIRMWARE, paths.firmware),
            (VARIABLES, paths.variables),
        ):
            shutil.copyfile(source, target)
        descriptor = os.open(paths.tpm_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_SIZE))
    return image


def write_vm_settings(
    spec: LabSpec, peer: PortEntry, setup: Mapping[str, Any], references: bytes, certificate: bytes
) -> None:
    """Write a VM's settings disk: the setup of a namespace's peer, with the paths a guest has."""
    inside = {
        **setup,
        **IN_GUEST,
        "profile": profile_for(GUEST).to_json(),
        "references": [f"{DIRECTORY}/references.json"],
    }
    network = network_text(peer, IPv4Interface(f"{spec.gateway.ip}/{spec.network.prefixlen}"))
    files = {"references.json": references, "ek_certificate.der": certificate}
    write_settings(VmPaths(spec.lab, peer.peer).settings, inside, network, files)
