"""Open all that a virtual machine's QEMU reads and writes: measured where it is read-only."""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmhost.errors import HostError
from vmhost.vm.sealed import Sealed, seal
from vmhost.vm.spec import VmSpec


@dataclass(frozen=True, slots=True)
class Files:
    """Open files of one start. `digests`: SHA-256 of what was measured, by path."""

    firmware: tuple[int, ...]
    variables: tuple[int, ...]
    disks: tuple[tuple[int, ...], ...]
    digests: dict[Path, str]


@contextmanager
def opened_files(spec: VmSpec, firmware_digest: str) -> Iterator[Files]:
    """Seal firmware and read-only disks, open the others; all is closed on leaving. Raises HostError."""
    with ExitStack() as undo:

        def sealed(path: Path) -> Sealed:
            return undo.enter_context(seal(path))

        firmware = sealed(spec.firmware_code)
        if firmware.digest != firmware_digest:
            raise HostError(
                "firmware-changed",
                f"{spec.firmware_code}: sealed after it was checked: expected SHA-256 {firmware_digest}, got "
                f"{firmware.digest}; nothing was started: find out who writes to this file, then start again",
            )
        variables = _writable(spec.firmware_vars, undo)
        digests = {spec.firmware_code: firmware.digest}
        disks: list[tuple[int, ...]] = []
        for disk in spec.disks:
            if disk.readonly:
                copy = sealed(disk.path)
                digests[disk.path] = copy.digest
                disks.append((copy.fd,))
            else:
                disks.append(_writable(disk.path, undo))
        yield Files((firmware.fd,), variables, tuple(disks), digests)


def _writable(path: Path, undo: ExitStack) -> tuple[int, ...]:
    """Open a file to read and write, and once more to read: QEMU wants both."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        undo.callback(os.close, fd)
        kind = os.fstat(fd).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
            raise OSError(f"a file of mode {kind:o}")
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, again)
    except OSError as error:
        raise HostError(
            "file-failed",
            f"{path}: opening it for the VM: expected a writable file or block device, no link, got {error}; "
            "create it, or correct the VM's settings",
        ) from error
    return fd, again
