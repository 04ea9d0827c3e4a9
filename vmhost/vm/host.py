"""The real steps of a virtual machine's start on this host."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vmhost.errors import HostError
from vmhost.process import Program
from vmhost.vm.argv import Handles, qemu_argv
from vmhost.vm.child import Child, child
from vmhost.vm.console import MAX_CONSOLE, Console, console_log
from vmhost.vm.edges import Log
from vmhost.vm.files import Files, opened_files
from vmhost.vm.golden import Outcome, check_firmware
from vmhost.vm.hold import held
from vmhost.vm.listener import listening
from vmhost.vm.qmp import Qmp
from vmhost.vm.room import ensure_room
from vmhost.vm.spec import VmSpec
from vmhost.vm.vtpm import VtpmSpec, powered_vtpm
from vmhost.vm.whole import in_thread, whole

LOG_ROOM = 2 * MAX_CONSOLE


@dataclass(frozen=True, slots=True)
class Host:
    """What one VM is started with: see `vmhost.vm.edges.Edges`.

    `golden_keys` are the administrators' public keys by id, `vtpm_key` fetches the key of the TPM's state.
    """

    golden_dir: Path
    golden_keys: Mapping[str, bytes]
    vtpm_spec: VtpmSpec
    vtpm_key: Callable[[], bytes]
    clock: Callable[[], float]  # seconds since the epoch

    def held(self, spec: VmSpec) -> AbstractAsyncContextManager[int]:
        """Hold the VM, in a thread: its TPM's state is what two starts must never share."""
        return in_thread(held(self.vtpm_spec.hold_file))

    def run_dir(self, spec: VmSpec) -> AbstractAsyncContextManager[None]:
        """Make the directory of sockets and logs; it goes again unless logs are in it."""
        return in_thread(_run_dir(spec))

    async def firmware(self, spec: VmSpec) -> Outcome:
        """Check the firmware against its golden copy, in a thread."""
        check = asyncio.to_thread(
            check_firmware, spec.firmware_code, self.golden_dir, self.golden_keys, self.clock()
        )
        return await whole(check)

    def console(self, spec: VmSpec) -> AbstractAsyncContextManager[Console]:
        """Begin a console log."""
        return in_thread(console_log(spec.console_log))

    def vtpm(self, spec: VmSpec, mark: int) -> AbstractAsyncContextManager[Child]:
        """Power the TPM on, reachable for this VM's QEMU."""
        mine = self.vtpm_spec
        if (mine.socket, mine.client_uid) != (spec.tpm_socket, spec.uid):
            raise HostError(
                "bad-spec",
                f"VM {spec.name}: checked its TPM: expected socket {spec.tpm_socket} for uid {spec.uid}, got "
                f"{mine.socket} for uid {mine.client_uid}; correct the VM's settings",
            )
        try:
            key = self.vtpm_key()
        except OSError as error:
            raise HostError(
                "no-key",
                f"{error.filename}: reading the key of the TPM's state of VM {spec.name}: expected a file, got "
                f"{error.strerror}; nothing was started: restore it, no other key opens that state",
            ) from error
        return powered_vtpm(mine, key, mark)

    def files(self, spec: VmSpec, firmware: Outcome) -> AbstractAsyncContextManager[Files]:
        """Measure, seal and open the VM's files, in a thread."""
        return in_thread(opened_files(spec, firmware.digest))

    def qemu(self, spec: VmSpec, files: Files, console: Log, mark: int) -> AbstractAsyncContextManager[Child]:
        """Start QEMU, paused."""
        return _qemu(spec, files, console, mark)

    def control(self, spec: VmSpec) -> AbstractAsyncContextManager[Qmp]:
        """Connect to QEMU's monitor."""
        return _control(spec)


@contextmanager
def _run_dir(spec: VmSpec) -> Iterator[None]:
    directory = spec.run_dir
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # QEMU's group may pass through, to the TPM's socket; it can neither list nor create
        os.chown(directory, 0, spec.gid)
        directory.chmod(0o710)
        ensure_room(directory, LOG_ROOM)
    except OSError as error:
        raise HostError(
            "run-dir-failed",
            f"{directory}: making the VM's run directory: expected a directory of root's, got {error}; "
            "check its parent's owner and free space on it",
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            directory.rmdir()


@asynccontextmanager
async def _qemu(spec: VmSpec, files: Files, console: Log, mark: int) -> AsyncIterator[Child]:
    with ExitStack() as undo:
        listener, recovery = (
            undo.enter_context(listening(one, 0)) for one in (spec.qmp_socket, spec.recovery_socket)
        )
        link = undo.enter_context(listening(spec.link_socket, 0)) if spec.host_link else None
        handles = Handles(
            files.firmware,
            files.variables,
            files.disks,
            console.append_fd,
            listener.fileno(),
            recovery.fileno(),
            link.fileno() if link else None,
        )
        program = Program(
            f"qemu-{spec.name}",
            qemu_argv(spec, handles),
            spec.namespace,
            spec.rights,
            spec.qemu_log,
            inherited=(*handles.all(), mark),
        )
        async with child(program) as one:
            for one_of in (
                listener,
                recovery,
                link,
            ):  # QEMU has them: once it is gone, we are refused instead of waiting
                if one_of is not None:
                    one_of.close()
            yield one


@asynccontextmanager
async def _control(spec: VmSpec) -> AsyncIterator[Qmp]:
    qmp = await Qmp.connect(spec.qmp_socket)
    try:
        yield qmp
    finally:
        await qmp.close()
