"""Say what a virtual machine is made of: pure data, checked where it is made."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from vmhost.errors import HostError
from vmhost.process import Rights

MAX_DISKS = 8
MEMORY_MIB = range(64, 1 << 20)
CPUS = range(1, 65)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Accelerator(StrEnum):
    """Who runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class Disk:
    """A virtio disk. What is read-only is measured, and started from the measured copy."""

    path: Path
    readonly: bool
    format: str = "raw"

    def __post_init__(self) -> None:
        if self.format != "raw":
            raise HostError(
                "bad-spec",
                f"disk {self.path}: checked its format: expected raw, got {self.format!r}; "
                "convert it with `qemu-img convert -O raw` (other formats can name further files)",
            )


@dataclass(frozen=True, slots=True)
class VmSpec:
    """One virtual machine. The tap and the namespace are there already; the first disk is the boot disk."""

    name: str
    uuid: str
    mac: str
    memory_mib: int
    cpus: int
    tap: str
    namespace: str
    firmware_code: Path
    firmware_vars: Path  # this machine's own copy: its firmware writes to it
    accelerator: Accelerator
    run_dir: Path  # root's: QEMU can create nothing in it
    tpm_socket: Path  # swtpm's control socket
    uid: int
    gid: int
    disks: tuple[Disk, ...] = field(default_factory=tuple)
    host_link: bool = False  # a serial port for the line to the host

    def __post_init__(self) -> None:
        checks = (
            ("name", self.name, _NAME.fullmatch(self.name), "a-z, 0-9 and '-', at most 32, a letter first"),
            ("uuid", self.uuid, _is_uuid(self.uuid), "a lower-case UUID with dashes"),
            ("mac", self.mac, _MAC.fullmatch(self.mac), "a lower-case unicast address"),
            ("memory_mib", self.memory_mib, self.memory_mib in MEMORY_MIB, f"{MEMORY_MIB.start} or more"),
            ("cpus", self.cpus, self.cpus in CPUS, f"{CPUS.start} to {CPUS.stop - 1}"),
            ("tap", self.tap, INTERFACE.fullmatch(self.tap), "an interface name, at most 15 characters"),
            ("namespace", self.namespace, _NAMESPACE.fullmatch(self.namespace), "a network namespace's name"),
            ("uid", self.uid, self.rights.unprivileged, "an unprivileged uid and gid"),
            ("disks", len(self.disks), len(self.disks) <= MAX_DISKS, f"at most {MAX_DISKS}"),
        )
        for what, got, good, expected in checks:
            if not good:
                raise HostError(
                    "bad-spec",
                    f"VM {self.name!r}: checked {what}: expected {expected}, got {got!r}; correct the VM's settings",
                )

    @property
    def rights(self) -> Rights:
        """What QEMU runs as: no capability at all."""
        return Rights(self.uid, self.gid)

    @property
    def qmp_socket(self) -> Path:
        """Where QEMU's monitor listens, for root alone."""
        return self.run_dir / "qmp.sock"

    @property
    def recovery_socket(self) -> Path:
        """Where the guest's second serial port is, for root alone: a shell in most images."""
        return self.run_dir / "recovery.sock"

    @property
    def link_socket(self) -> Path:
        """Where the host's end of the VM's line is, for root alone (see `hostlink`)."""
        return self.run_dir / "link.sock"

    @property
    def console_log(self) -> Path:
        """What the guest wrote to its serial port."""
        return self.run_dir / "console.log"

    @property
    def qemu_log(self) -> Path:
        """What QEMU itself had to say."""
        return self.run_dir / "qemu.log"


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
