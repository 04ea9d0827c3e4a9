"""A virtual machine's life: OFF → STARTING → RUNNING → STOPPING → OFF, or FAILED with a reason.

A start is a list of steps, each of which knows how to undo itself: a failure, a cancellation and a stop all go
back the same way. Start, stop and the reaction to an unexpected end exclude each other: one lock per VM.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from vmhost.errors import HostError
from vmhost.log import shown
from vmhost.vm.edges import Control, Edges, Log, Process
from vmhost.vm.golden import Outcome
from vmhost.vm.qmp import Event
from vmhost.vm.spec import VmSpec
from vmhost.vm.whole import whole

QUIT_WITHIN_S = 3.0
SETTLE_S = 0.5


class State(StrEnum):
    """Where a VM stands. OFF and FAILED: nothing of it runs."""

    OFF = "off"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"


class GuestEnd(StrEnum):
    """How a guest ends itself (QMP's ShutdownCause). Any other end is a failure."""

    SHUTDOWN = "guest-shutdown"
    RESET = "guest-reset"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a VM's state."""

    name: str
    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What runs of a VM."""

    qemu: Process
    vtpm: Process
    control: Control
    console: Log


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured before a start: the firmware's check, SHA-256 by path, when (s since the epoch)."""

    firmware: Outcome
    digests: dict[Path, str]
    at: float


class Domain:
    """One VM under the monitor. `changed` is told each change of state, in order; `clock` is the time of day."""

    def __init__(
        self,
        spec: VmSpec,
        edges: Edges,
        changed: Callable[[Change], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.spec = spec
        self.state, self.reason, self.since = State.OFF, "", clock()
        self.measured: Measured | None = None  # before the last start; it stays
        self._edges, self._changed, self._clock = edges, changed, clock
        self._lock = asyncio.Lock()
        self._undo = AsyncExitStack()
        self._machine: Machine | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def machine(self) -> Machine | None:
        """What runs; None while nothing does."""
        return self._machine

    async def start(self) -> None:
        """Start it and return once it runs; raises HostError, and nothing of it is left then."""
        async with self._lock:
            if self.state is State.RUNNING:
                raise HostError(
                    "already-running",
                    f"VM {self.spec.name}: checked its state before a start: expected off or failed, got running; "
                    "stop it first",
                )
            self._enter(State.STARTING)
            undo = AsyncExitStack()
            undo.callback(self._forget)
            try:
                self._machine = await self._bring_up(undo)
            except BaseException as error:
                cancelled = isinstance(error, asyncio.CancelledError)
                end = (State.OFF, "the start was cancelled") if cancelled else (State.FAILED, str(error))
                await self._take_down(undo, *end)
                raise
            self._undo = undo
            self._enter(State.RUNNING, self.measured.firmware.described if self.measured else "")
            self._watching = asyncio.create_task(self._watch(self._machine), name=f"vm-{self.spec.name}")

    async def stop(self) -> None:
        """Pull the plug: end QEMU by its monitor, then by its pid. Off already: no matter."""
        async with self._lock:
            machine = self._machine
            if machine is None:
                if self.state is State.FAILED:
                    self._enter(State.OFF, "stopped after a failure")
                return
            self._enter(State.STOPPING)
            if self._watching is not None:
                self._watching.cancel()
            try:
                with suppress(
                    HostError
                ):  # it hangs or is gone: what comes next is harder, in the end SIGKILL
                    await machine.control.quit()
                    await _within(machine.qemu, QUIT_WITHIN_S)
            finally:
                await self._take_down(self._undo, State.OFF, "stopped")

    async def _bring_up(self, undo: AsyncExitStack) -> Machine:
        spec, edges = self.spec, self._edges
        mark = await undo.enter_async_context(edges.held(spec))
        await undo.enter_async_context(edges.run_dir(spec))
        firmware = await edges.firmware(spec)
        console = await undo.enter_async_context(edges.console(spec))
        vtpm = await undo.enter_async_context(edges.vtpm(spec, mark))
        async with edges.files(spec, firmware) as files:  # QEMU has them once it runs; we close them
            self.measured = Measured(firmware, files.digests, self._clock())
            qemu = await undo.enter_async_context(edges.qemu(spec, files, console, mark))
        try:
            control = await undo.enter_async_context(edges.control(spec))
            await control.cont()
            status = await control.query_status()
        except HostError as error:
            raise await _explained(error, qemu, vtpm) from error
        if status != "running":
            raise HostError(
                "not-running",
                f"VM {spec.name}: checked its state after the start: expected running, got {status}; "
                f"see {spec.qemu_log}",
            )
        return Machine(qemu, vtpm, control, console)

    async def _take_down(self, undo: AsyncExitStack, state: State, reason: str) -> None:
        """Undo all of a start, also when cancelled meanwhile."""
        try:
            await whole(undo.aclose())
        finally:
            self._enter(state, reason)

    def _forget(self) -> None:
        self._machine = None

    async def _watch(self, machine: Machine) -> None:
        """Wait for the end nobody asked for, and clear up after it."""
        try:
            end = await _unexpected_end(machine)
        except Exception as error:  # noqa: BLE001 - nobody watches the VM any more: it must not go on
            end = f"watching the VM failed: {error!r}"
        async with self._lock:
            if self._machine is machine:
                state = State.OFF if end in tuple(GuestEnd) else State.FAILED
                await self._take_down(self._undo, state, end)

    def _enter(self, state: State, reason: str = "") -> None:
        self.state, self.reason, self.since = state, reason, self._clock()
        self._changed(Change(self.spec.name, state, reason))


async def _unexpected_end(machine: Machine) -> str:
    """Return why the VM is over: a GuestEnd, or a sentence."""
    shutdown = asyncio.create_task(_shutdown_cause(machine.control), name="events")
    console = asyncio.create_task(machine.console.keep_small(), name="console")
    qemu = asyncio.create_task(machine.qemu.ended(), name="qemu")
    vtpm = asyncio.create_task(machine.vtpm.ended(), name="vtpm")
    tasks = {shutdown, console, qemu, vtpm}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # they end one after the other; who was first shows a moment later
        await asyncio.wait({shutdown, qemu}, timeout=SETTLE_S)
        if shutdown.done() and (cause := shutdown.result()):
            return cause if cause in tuple(GuestEnd) else f"QEMU ended the guest: {cause}"
        if not machine.qemu.alive:
            return f"QEMU died: {machine.qemu.describe_end()}"
        if not machine.vtpm.alive:
            return f"the TPM died: {machine.vtpm.describe_end()}"
        if console.done():
            return f"the console's log is not kept small any more: {console.exception()}"
        return "QEMU hung up its monitor connection"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _shutdown_cause(control: Control) -> str:
    """Wait for the event that says why QEMU ends; "" when the connection is lost before."""
    try:
        while (event := await control.next_event()).name != "SHUTDOWN":
            pass
        return _cause(event)
    except HostError:
        return ""


def _cause(event: Event) -> str:
    return shown(str(event.data.get("reason") or "unknown"))[:64]


async def _within(process: Process, seconds: float) -> bool:
    """Wait for a process to end; tell whether it did."""
    try:
        async with asyncio.timeout(seconds):
            await process.ended()
            return True
    except TimeoutError:
        return False


async def _explained(error: HostError, qemu: Process, vtpm: Process) -> HostError:
    """Name the process that died as the cause, if one did."""
    await _within(qemu, SETTLE_S)
    if qemu.alive and vtpm.alive:
        return error
    dead = vtpm if qemu.alive else qemu
    return HostError(
        "vm-died",
        f"starting the VM: expected QEMU to answer on its monitor, got {error.message}; {dead.describe_end()}; "
        "correct what it says, then start again",
    )
