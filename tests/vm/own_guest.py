"""Somebody's own Debian guest: made as docs/own-guest.md says, with the document's own commands."""

import asyncio
import contextlib
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import key_id
from vmhost.errors import HostError
from vmhost.image.agent_deb import build_agent_deb
from vmhost.image.debian import SOURCES
from vmhost.image.esp import make_esp
from vmhost.image.recipe import Recipe
from vmhost.image.tool import run_tool
from vmhost.issue.new_tpm import KEY, STATE
from vmhost.lab.setup import PROJECT
from vmhost.lab.vms import FIRMWARE, VARIABLES, accelerator
from vmhost.process import Rights
from vmhost.vm.domain import Domain
from vmhost.vm.golden import sign_golden
from vmhost.vm.guest import VmGuest
from vmhost.vm.host import Host
from vmhost.vm.recovery import run_in_guest
from vmhost.vm.spec import Disk, VmSpec
from vmhost.vm.vtpm import VtpmSpec

GUIDE = PROJECT / "docs" / "own-guest.md"
PACKAGES = ("linux-image-cloud-amd64", "systemd-sysv", "udev", "initramfs-tools", "iproute2", "systemd-boot-efi", "binutils", "busybox-static")  # fmt: skip
ROOT_UUID = "0b7e5a34-6f0c-4a0e-8f3e-2d5b6c1f9a10"
QEMU_UID, TPM_UID = 64497, 64397
# a shell for the test, at the port that only the host reaches
SHELL = """[Service]
ExecStart=/bin/sh -c 'stty -F /dev/ttyS1 raw -echo; while :; do setsid busybox sh </dev/ttyS1 >/dev/ttyS1 2>&1; done'
[Install]
WantedBy=multi-user.target
"""
NETWORK = """[Match]
Name=e*
[Network]
Address={ip}/24
LinkLocalAddressing=no
"""


def blocks(section: str) -> list[str]:
    """The code blocks of a section of the guide."""
    text = GUIDE.read_text().split(f"\n## {section}", 1)[1].split("\n## ")[0]
    return [one.strip() for one in re.findall(r"```\n(.*?)```", text, re.DOTALL)]


@dataclass
class OwnGuest:
    """A Debian below a directory, and the VM that it becomes."""

    room: Path

    @property
    def root(self) -> Path:
        return self.room / "root"

    @property
    def uki(self) -> Path:
        return self.root / "boot/efi/EFI/BOOT/BOOTX64.EFI"

    def inside(self, script: str) -> str:
        """Run commands in it, as its root, before it ever starts."""
        done = subprocess.run(
            ["chroot", str(self.root), "sh", "-euc", script], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def make(self, package: Path, ip: str) -> None:
        """Install a Debian, and in it what the guide says."""
        recipe = Recipe.load(PROJECT / "appliance-image" / "agent-deb")
        needed = sorted({one.partition(" ")[0] for one in recipe.packages} | set(PACKAGES))
        sources = next((str(one) for one in SOURCES if one.is_file()), "")
        argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(needed)}"]
        try:
            run_tool([*argv, recipe.suite, str(self.root), sources])
        except HostError as error:
            pytest.skip(f"no Debian can be made from this machine's mirrors: {error}")
        self.install(package, ip)

    def install(self, package: Path, ip: str) -> None:
        shutil.copy(package, self.root / "tmp")
        for step in blocks("1."):
            self.inside(step.replace("apt install ./", "dpkg -i /tmp/"))
        for step in blocks("2."):
            self.inside(step)
        (self.root / "etc/fstab").write_text(f"UUID={ROOT_UUID} / ext4 defaults 0 0\n")
        (self.root / "etc/systemd/network/10.network").write_text(NETWORK.format(ip=ip))
        (self.root / "etc/systemd/system/shell.service").write_text(SHELL)
        self.inside("systemctl enable --quiet systemd-networkd shell")

    def make_uki(self, *changes: tuple[str, str]) -> None:
        """Put the unified image together with the guide's words; the test wants a console besides."""
        (script,) = blocks("3.")
        script = "\n".join(one for one in script.splitlines() if not one.startswith("apt "))
        for old, new in (('"$(findmnt -no UUID /)"', ROOT_UUID), ("quiet", "quiet console=ttyS0"), *changes):
            assert old in script, old
            script = script.replace(old, new)
        self.uki.parent.mkdir(parents=True, exist_ok=True)
        self.inside(script)

    def make_disks(self) -> None:
        """Write what it starts from: the program, the root file system."""
        make_esp(self.uki.read_bytes(), self.room / "boot.img")
        with (self.room / "root.img").open("wb") as file:
            file.truncate(1536 << 20)
        run_tool(
            ["mke2fs", "-q", "-t", "ext4", "-U", ROOT_UUID, "-d", str(self.root), str(self.room / "root.img")]
        )


@contextlib.contextmanager
def own_guest() -> Iterator[OwnGuest]:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="qg-own-") as room:
        Path(room).chmod(0o711)
        yield OwnGuest(Path(room))


@contextlib.contextmanager
def running_guest(
    own: OwnGuest, namespace: str, tap: str, mac: str, uuid: str, tpm: Path
) -> Iterator["Started"]:
    """Start it with our own start of VMs, on the TPM that was issued; it is off afterwards."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        guest = _guest(own, namespace, tap, mac, uuid, tpm, loop)
        guest.boot()
        try:
            yield Started(guest, guest.domain.spec)
        finally:
            guest.power_off()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass
class Started:
    guest: VmGuest
    spec: VmSpec

    def run(self, script: str) -> str:
        done = run_in_guest(self.spec.run_dir / "recovery.sock", ("sh", "-c", script), 60)
        return f"{done.status}: {done.output.decode(errors='replace')}"

    def console(self) -> str:
        return self.spec.console_log.read_text(errors="replace")


def _guest(
    own: OwnGuest, namespace: str, tap: str, mac: str, uuid: str, tpm: Path, loop: asyncio.AbstractEventLoop
) -> VmGuest:
    for source, name in ((FIRMWARE, "code.fd"), (VARIABLES, "vars.fd")):
        shutil.copy(source, own.room / name)
    key = Ed25519PrivateKey.generate()
    sign_golden(FIRMWARE, own.room / "golden", 1, time.time() + 3600, key)
    run_dir, public = own.room / "run", key.public_key().public_bytes_raw()
    spec = VmSpec(
        name="mine", uuid=uuid, mac=mac, memory_mib=768, cpus=1, tap=tap, namespace=namespace,
        firmware_code=own.room / "code.fd", firmware_vars=own.room / "vars.fd", accelerator=accelerator().accelerator,
        run_dir=run_dir, tpm_socket=run_dir / "swtpm.ctrl", uid=QEMU_UID, gid=QEMU_UID,
        disks=(Disk(own.room / "boot.img", readonly=True), Disk(own.room / "root.img", readonly=False)),
    )  # fmt: skip
    rights = Rights(TPM_UID, TPM_UID)
    vtpm = VtpmSpec("mine", namespace, tpm / STATE, spec.tpm_socket, own.room / "swtpm.log", rights, QEMU_UID)
    host = Host(own.room / "golden", {key_id(public): public}, vtpm, (tpm / KEY).read_bytes, time.time)
    return VmGuest(Domain(spec, host, lambda _: None), vtpm, (tpm / KEY).read_bytes, loop)


def package(out: Path) -> Path:
    return build_agent_deb(PROJECT, out)
