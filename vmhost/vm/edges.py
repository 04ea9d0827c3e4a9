"""What a domain needs of the world, one context manager per step: leaving it undoes the step."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from vmhost.vm.files import Files
from vmhost.vm.golden import Outcome
from vmhost.vm.qmp import Event
from vmhost.vm.spec import VmSpec


class Process(Protocol):
    """A process of the VM (see `vmhost.vm.child`)."""

    @property
    def pid(self) -> int:
        """Name it."""

    @property
    def alive(self) -> bool:
        """Tell whether it still runs."""

    async def ended(self) -> None:
        """Return once it has ended."""

    def describe_end(self) -> str:
        """Say how it ended and what it wrote last."""


class Control(Protocol):
    """A connection to QEMU's monitor (see `vmhost.vm.qmp`)."""

    async def cont(self) -> None:
        """Let the guest run."""

    async def query_status(self) -> str:
        """Ask for the run state."""

    async def quit(self) -> None:
        """End QEMU at once."""

    async def next_event(self) -> Event:
        """Return the next event; raises HostError once the connection is lost."""


class Log(Protocol):
    """The guest's console (see `vmhost.vm.console`)."""

    @property
    def append_fd(self) -> int:
        """The file for QEMU to append to."""

    async def keep_small(self) -> None:
        """Limit its size for ever."""


class Edges(Protocol):
    """The steps of a start, in this order."""

    def held(self, spec: VmSpec) -> AbstractAsyncContextManager[int]:
        """Have the VM to ourselves, and end what an earlier monitor left; gives the mark of its processes."""

    def run_dir(self, spec: VmSpec) -> AbstractAsyncContextManager[None]:
        """Make the directory of sockets and logs."""

    async def firmware(self, spec: VmSpec) -> Outcome:
        """Check the firmware against its golden copy."""

    def console(self, spec: VmSpec) -> AbstractAsyncContextManager[Log]:
        """Begin a console log."""

    def vtpm(self, spec: VmSpec, mark: int) -> AbstractAsyncContextManager[Process]:
        """Power the TPM on."""

    def files(self, spec: VmSpec, firmware: Outcome) -> AbstractAsyncContextManager[Files]:
        """Measure, seal and open the VM's files."""

    def qemu(
        self, spec: VmSpec, files: Files, console: Log, mark: int
    ) -> AbstractAsyncContextManager[Process]:
        """Start QEMU, paused."""

    def control(self, spec: VmSpec) -> AbstractAsyncContextManager[Control]:
        """Connect to its monitor."""
