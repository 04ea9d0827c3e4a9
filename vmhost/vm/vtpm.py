"""A virtual machine's TPM: one swtpm per VM, under a uid of its own, its state encrypted.

The key comes by a pipe: neither command line nor file has it. swtpm keeps the state file encrypted and
authenticated (encrypt-then-MAC); a rolled-back state directory it does not notice. It ends with its QEMU
(`--terminate`), and each start is a power-on.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmhost.errors import HostError
from vmhost.process import Program, Rights
from vmhost.vm.child import Child, child
from vmhost.vm.listener import listening
from vmhost.vm.room import ensure_room

KEY_SIZE = 32
STATE_ROOM = 256 << 10  # the state twice, as it is replaced, with room to grow


@dataclass(frozen=True, slots=True)
class VtpmSpec:
    """A VM's TPM. `client_uid` is the only one but root who may connect: QEMU's, never the TPM's own."""

    name: str
    namespace: str
    state_dir: Path
    socket: Path
    log: Path
    rights: Rights
    client_uid: int

    @property
    def hold_file(self) -> Path:
        """Who holds the VM and its TPM (see `vmhost.vm.hold`); root's alone."""
        return self.state_dir.with_name(f"{self.state_dir.name}.held")

    def __post_init__(self) -> None:
        if not self.rights.unprivileged or self.rights.uid == self.client_uid:
            raise HostError(
                "bad-spec",
                f"TPM of {self.name}: checked its uid: expected an unprivileged one that is not QEMU's, got "
                f"{self.rights.uid}; else a QEMU taken over by its guest reads the TPM's keys: choose another uid",
            )


def vtpm_argv(spec: VtpmSpec, ctrl_fd: int, key_fd: int) -> tuple[str, ...]:
    """Return swtpm's command line (0.7.1): control socket and key are inherited; QEMU brings the data socket."""
    return (
        "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={spec.state_dir},mode=0600",
        "--ctrl", f"type=unixio,fd={ctrl_fd}",
        "--key", f"fd={key_fd},format=binary,mode=aes-256-cbc", "--terminate",
    )  # fmt: skip


@asynccontextmanager
async def powered_vtpm(spec: VtpmSpec, key: bytes, mark: int) -> AsyncIterator[Child]:
    """Start a TPM that inherits the VM's mark; process and socket are gone on leaving, the state stays. Raises HostError."""
    if len(key) != KEY_SIZE:
        raise HostError(
            "bad-key",
            f"TPM of {spec.name}: checked the state's key: expected {KEY_SIZE} bytes, got {len(key)}; restore it",
        )
    async with AsyncExitStack() as undo:
        own_state(spec)
        listener = undo.enter_context(listening(spec.socket, spec.client_uid))
        with key_pipe(key) as key_fd:
            ctrl = listener.fileno()
            program = Program(
                f"swtpm-{spec.name}",
                vtpm_argv(spec, ctrl, key_fd),
                spec.namespace,
                spec.rights,
                spec.log,
                inherited=(ctrl, key_fd, mark),
            )
            one = await undo.enter_async_context(child(program))
        listener.close()  # swtpm has it: once that is gone, a client is refused
        yield one


def own_state(spec: VtpmSpec) -> None:
    """Make the state directory, the TPM's alone, with room in it; raises HostError."""
    try:
        spec.state_dir.mkdir(parents=True, exist_ok=True)
        os.chown(spec.state_dir, spec.rights.uid, spec.rights.gid)
        spec.state_dir.chmod(0o700)
        ensure_room(spec.state_dir, STATE_ROOM)  # without it the TPM runs and fails each command
    except OSError as error:
        raise HostError(
            "tpm-failed",
            f"{spec.state_dir}: preparing the TPM's state: expected a writable directory, got {error}; "
            "check its parent's owner and the disk",
        ) from error


@contextmanager
def key_pipe(key: bytes) -> Iterator[int]:
    """Give the end of a pipe to read the key from, once."""
    reading, writing = os.pipe()
    try:
        os.write(writing, key)
        os.close(writing)
        yield reading
    finally:
        os.close(reading)
