"""A real VM in a namespace of its own, and ways to see what is left of it."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import key_id
from tests.vmhost.vm.specs import small
from vmhost.commands import run
from vmhost.process import Rights
from vmhost.vm.domain import Change, Domain
from vmhost.vm.golden import sign_golden
from vmhost.vm.host import Host
from vmhost.vm.spec import Disk, VmSpec
from vmhost.vm.vtpm import VtpmSpec

OVMF = Path("/usr/share/OVMF")
UID, TPM_UID = 64490, 64390
TAP = "qgtap0"
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()


@dataclass
class Place:
    """Where a VM is to run: its namespace, tap and directory are there."""

    root: Path
    namespace: str
    tap: str = TAP
    vtpm_key: bytes = b"s" * 32
    changes: list[Change] = field(default_factory=list)

    def spec(self, *disks: Disk) -> VmSpec:
        run_dir = self.root / "run" / "guest"
        return small(
            tap=self.tap,
            namespace=self.namespace,
            firmware_code=self.root / "OVMF_CODE.fd",
            firmware_vars=self.root / "vars.fd",
            run_dir=run_dir,
            tpm_socket=run_dir / "swtpm.ctrl",
            uid=UID,
            gid=UID,
            disks=disks,
        )

    def domain(self, *disks: Disk) -> Domain:
        spec = self.spec(*disks)
        return Domain(spec, self.host(spec), self.changes.append)

    def host(self, spec: VmSpec) -> Host:
        vtpm = VtpmSpec(
            spec.name,
            spec.namespace,
            self.root / "tpm-state",
            spec.tpm_socket,
            spec.run_dir / "swtpm.log",
            Rights(TPM_UID, TPM_UID),
            spec.uid,
        )
        return Host(self.root / "golden", {key_id(PUBLIC): PUBLIC}, vtpm, lambda: self.vtpm_key, time.time)

    def processes(self) -> list[int]:
        return [int(pid) for pid in run(["ip", "netns", "pids", self.namespace]).split()]

    def console(self) -> bytes:
        return (self.root / "run/guest/console.log").read_bytes()

    def sockets(self) -> list[str]:
        return [path.name for path in (self.root / "run").rglob("*") if path.is_socket()]

    def tap_in_use(self) -> bool:
        """Tell whether somebody has the tap open: it has a carrier then."""
        return "NO-CARRIER" not in run(["ip", "-n", self.namespace, "link", "show", TAP])


@contextmanager
def place(name: str) -> Iterator[Place]:
    namespace = f"qg-vm{os.getpid()}{name}"
    root = Path(tempfile.mkdtemp(prefix="qg-vm-", dir="/run"))
    root.chmod(0o711)
    try:
        run(["ip", "netns", "add", namespace])
        run(["ip", "-n", namespace, "tuntap", "add", "dev", TAP, "mode", "tap", "user", str(UID)])
        run(["ip", "-n", namespace, "link", "set", TAP, "up"])
        shutil.copy(OVMF / "OVMF_CODE.fd", root)
        shutil.copy(OVMF / "OVMF_VARS.fd", root / "vars.fd")
        sign_golden(OVMF / "OVMF_CODE.fd", root / "golden", 1, time.time() + 3600, KEY)
        yield Place(root, namespace)
    finally:
        run(["ip", "netns", "delete", namespace], check=False)
        shutil.rmtree(root)


@contextmanager
def clean_place(name: str) -> Iterator[Place]:
    """A place where nothing of a VM is left at the end."""
    with place(name) as one:
        yield one
        assert one.processes() == []
        assert one.sockets() == []
        assert memfds() == []
        assert not one.tap_in_use()


def memfds() -> list[str]:
    """The memfds this process has open."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(fd.readlink()))
        except OSError:
            continue
    return [one for one in found if one.startswith("/memfd:")]


def memfds_of(pid: int) -> set[str]:
    """The memfds a process has open, by name."""
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return {
        one.removeprefix("/memfd:").removesuffix(" (deleted)") for one in links if one.startswith("/memfd:")
    }
