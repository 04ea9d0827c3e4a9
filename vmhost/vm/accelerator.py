"""Choose who runs the guests' instructions: KVM where it works, TCG (an emulator, ten times slower) elsewhere.

That /dev/kvm is there says little: nested and restricted hosts have it and refuse registers, or lose the guest.
So a tiny guest is tried, one boot sector in real mode that writes "OK" to a debug port and switches itself off,
with the CPU model and the rights that real guests get.

Not guaranteed: that a whole kernel runs. There are hosts where such small code runs under KVM and stock kernels
hang later. There, set `QUOTEGATE_ACCELERATOR=tcg` in the monitor's environment; `QUOTEGATE_ACCELERATOR=kvm`
forces KVM. The override is taken as it is, without a trial.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmhost.errors import HostError
from vmhost.process import Program, Rights
from vmhost.vm.argv import QEMU, SANDBOX
from vmhost.vm.spec import Accelerator

OVERRIDE = "QUOTEGATE_ACCELERATOR"
WITHIN_S = 3.0
_DEBUG_PORT, _EXIT_PORT = 0xE9, 0xF4
_SUCCESS = (0x10 << 1) | 1  # what isa-debug-exit makes of 0x10
_CODE = bytes([
    0xBA, _DEBUG_PORT, 0,  # mov dx, the debug port
    0xB0, ord("O"), 0xEE,  # mov al, 'O'; out dx, al
    0xB0, ord("K"), 0xEE,  # mov al, 'K'; out dx, al
    0xBA, _EXIT_PORT, 0,  # mov dx, the exit port
    0xB0, 0x10, 0xEE,  # mov al, 0x10; out dx, al
    0xF4, 0xEB, 0xFD,  # halt for ever
])  # fmt: skip
BOOT_SECTOR = _CODE.ljust(510, b"\0") + b"\x55\xaa"


@dataclass(frozen=True, slots=True)
class Choice:
    """The accelerator to use, and why."""

    accelerator: Accelerator
    reason: str


# Runs the tiny guest under KVM and says what went wrong: "" means that it ran.
Trial = Callable[[Rights], str]


def choose(environment: Mapping[str, str], rights: Rights, trial: Trial | None = None) -> Choice:
    """Choose for guests with these rights; raises HostError for an override that is none."""
    wish = environment.get(OVERRIDE, "")
    if wish:
        if wish not in tuple(Accelerator):
            raise HostError(
                "bad-accelerator",
                f"{OVERRIDE}: checked its value: expected kvm or tcg, got {wish!r}; correct or unset it",
            )
        return Choice(Accelerator(wish), f"{OVERRIDE}={wish} says so")
    trouble = (trial or try_kvm)(rights)
    if trouble:
        return Choice(Accelerator.TCG, f"KVM does not work here: {trouble}")
    return Choice(Accelerator.KVM, "a small guest ran under KVM")


def probe_argv(disk: Path) -> tuple[str, ...]:
    """Return the command line of the tiny guest."""
    return (
        QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", SANDBOX,
        "-machine", "pc,accel=kvm", "-cpu", "host", "-m", "16", "-no-reboot",
        "-drive", f"if=ide,format=raw,file={str(disk).replace(',', ',,')}",
        "-chardev", "stdio,id=debug,signal=off", "-device", f"isa-debugcon,iobase={_DEBUG_PORT:#x},chardev=debug",
        "-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=0x01",
    )  # fmt: skip


def try_kvm(rights: Rights) -> str:
    """Run the tiny guest; return what went wrong, "" when nothing did."""
    if not Path("/dev/kvm").exists():
        return (
            "there is no /dev/kvm (load kvm_intel or kvm_amd, switch virtualization on in the firmware setup)"
        )
    try:
        with tempfile.TemporaryDirectory(prefix="qg-kvm-") as name:
            directory = Path(name)
            disk = directory / "sector"
            disk.write_bytes(BOOT_SECTOR)
            for path in (directory, disk):
                os.chown(path, rights.uid, rights.gid)
            program = Program("kvm-probe", probe_argv(disk), "", rights, directory / "log")
            done = _run(program)
    except OSError as error:
        raise HostError(
            "no-space",
            f"trying a small guest under KVM: expected room for its disk where temporary files are, got {error}; nothing "
            f"was started: free space there, or say which accelerator to use: {OVERRIDE}=kvm or tcg",
        ) from error
    if isinstance(done, str):
        return done
    if done.returncode == _SUCCESS and done.stdout == b"OK":
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return f"a small guest ended with status {done.returncode}: {said[0][:200] if said else 'no message'}"


def _run(program: Program) -> "subprocess.CompletedProcess[bytes] | str":
    """Run it; return how it ended, or why it did not."""
    try:
        return subprocess.run(
            program.command(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=WITHIN_S,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return f"a small guest was not done within {WITHIN_S:.0f} s"
    except OSError as error:
        return f"QEMU did not start: {error}"
