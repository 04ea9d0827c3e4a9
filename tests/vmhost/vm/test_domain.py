"""A VM's life with stand-ins at its edges: whatever fails when, everything before it is undone, and it can be started again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.vmhost.vm.specs import small
from vmhost.errors import HostError
from vmhost.vm.domain import Change, Domain, State
from vmhost.vm.files import Files
from vmhost.vm.golden import Outcome
from vmhost.vm.qmp import Event
from vmhost.vm.spec import VmSpec

STEPS = ("held", "run_dir", "console", "vtpm", "files", "qemu", "control")
FIRMWARE = Outcome("d" * 64, 1, restored=False, found="d" * 64)


@dataclass
class Process:
    """Stands for QEMU or swtpm."""

    pid: int = 1
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def alive(self) -> bool:
        return not self.over.is_set()

    async def ended(self) -> None:
        await self.over.wait()

    def describe_end(self) -> str:
        return "it ended"


@dataclass
class Control:
    """Stands for QEMU's monitor."""

    qemu: Process
    status: str = "running"
    quits: bool = True
    events: "asyncio.Queue[Event | HostError]" = field(default_factory=asyncio.Queue)

    async def cont(self) -> None:
        return

    async def query_status(self) -> str:
        return self.status

    async def quit(self) -> None:
        if not self.quits:
            raise HostError("qmp-timeout", "QEMU hangs")
        self.qemu.over.set()

    async def next_event(self) -> Event:
        event = await self.events.get()
        if isinstance(event, HostError):
            raise event
        return event


class Console:
    append_fd = 3

    async def keep_small(self) -> None:
        await asyncio.sleep(60)


@dataclass
class Edges:
    """All steps, noted as they are entered and left; one of them fails, or waits until it is cancelled."""

    fails: str = ""
    error: BaseException = field(default_factory=lambda: HostError("no", "it failed"))
    waits: str = ""
    fails_to_leave: str = ""
    status: str = "running"
    quits: bool = True
    inside: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    processes: dict[str, Process] = field(default_factory=dict)
    controls: list[Control] = field(default_factory=list)

    @asynccontextmanager
    async def _step(self, name: str, value: Any) -> AsyncIterator[Any]:
        if self.fails == name:
            raise self.error
        self.inside.append(name)
        try:
            if self.waits == name:
                self.entered.set()
                await asyncio.sleep(60)
            yield value
        finally:
            self.inside.remove(name)
            self.left.append(name)
            if name in self.processes:
                self.processes[name].over.set()
            if self.fails_to_leave == name:
                raise HostError("not-left", f"{name} can't be undone")

    def held(self, _: VmSpec) -> Any:
        return self._step("held", 9)

    def run_dir(self, _: VmSpec) -> Any:
        return self._step("run_dir", None)

    async def firmware(self, _: VmSpec) -> Outcome:
        if self.fails == "firmware":
            raise self.error
        return FIRMWARE

    def console(self, _: VmSpec) -> Any:
        return self._step("console", Console())

    def vtpm(self, _: VmSpec, __: int) -> Any:
        return self._step("vtpm", self._process("vtpm"))

    def files(self, _: VmSpec, __: Outcome) -> Any:
        return self._step("files", Files((), (), (), {Path("boot"): "0"}))

    def qemu(self, *_: Any) -> Any:
        return self._step("qemu", self._process("qemu"))

    def control(self, _: VmSpec) -> Any:
        self.controls.append(Control(self.processes["qemu"], self.status, self.quits))
        return self._step("control", self.controls[-1])

    def _process(self, name: str) -> Process:
        self.processes[name] = Process()
        return self.processes[name]


def domain_with(edges: Edges) -> tuple[Domain, list[Change]]:
    changes: list[Change] = []
    return Domain(small(), edges, changes.append, lambda: 1.0), changes


async def starts_and_stops(domain: Domain, edges: Edges) -> None:
    """Nothing is left of what was before."""
    edges.fails = edges.waits = edges.fails_to_leave = ""
    edges.status = "running"
    edges.left.clear()
    await domain.start()
    assert (domain.state, edges.inside) == (State.RUNNING, [one for one in STEPS if one != "files"])
    await domain.stop()
    assert (domain.state, edges.inside, domain.machine) == (State.OFF, [], None)
    assert edges.left == ["files", *reversed([one for one in STEPS if one != "files"])]


@pytest.mark.parametrize("error", [HostError("no", "it failed"), OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", [*STEPS, "firmware"])
def test_a_step_that_fails_is_undone_with_all_before_it(step: str, error: Exception) -> None:
    async def story() -> None:
        domain, changes = domain_with(edges := Edges(fails=step, error=error))
        with pytest.raises(type(error)):
            await domain.start()
        assert (domain.state, domain.machine, edges.inside) == (State.FAILED, None, [])
        assert domain.reason == str(error)
        assert [one.state for one in changes] == ["starting", "failed"]
        await starts_and_stops(domain, edges)

    asyncio.run(story())


@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_is_cancelled_is_undone(step: str) -> None:
    async def story() -> None:
        domain, _ = domain_with(edges := Edges(waits=step))
        starting = asyncio.create_task(domain.start())
        await edges.entered.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert (domain.state, domain.machine, edges.inside) == (State.OFF, None, [])
        await starts_and_stops(domain, edges)

    asyncio.run(story())


@pytest.mark.parametrize("step", [one for one in STEPS if one != "files"])
def test_a_step_that_can_not_be_undone_keeps_no_other_from_it(step: str) -> None:
    async def story() -> None:
        domain, _ = domain_with(edges := Edges(fails_to_leave=step))
        await domain.start()
        with pytest.raises(HostError, match="can't be undone"):
            await domain.stop()
        assert (domain.state, domain.machine, edges.inside) == (State.OFF, None, [])
        await starts_and_stops(domain, edges)

    asyncio.run(story())


def test_rejects_a_guest_that_does_not_run() -> None:
    async def story() -> None:
        domain, _ = domain_with(edges := Edges(status="internal-error"))
        with pytest.raises(HostError, match="expected running, got internal-error") as refused:
            await domain.start()
        assert refused.value.code == "not-running"
        assert (domain.state, edges.inside) == (State.FAILED, [])
        await starts_and_stops(domain, edges)

    asyncio.run(story())


def test_two_starts_at_once_start_it_once() -> None:
    async def story() -> None:
        domain, _ = domain_with(edges := Edges())
        first, second = await asyncio.gather(domain.start(), domain.start(), return_exceptions=True)
        assert first is None
        assert isinstance(second, HostError)
        assert second.code == "already-running"
        await asyncio.gather(domain.stop(), domain.stop())
        assert (domain.state, edges.inside) == (State.OFF, [])
        assert edges.left.count("qemu") == 1

    asyncio.run(story())


def test_a_stop_behind_a_start_stops_what_that_started() -> None:
    async def story() -> None:
        domain, changes = domain_with(edges := Edges())
        await asyncio.gather(domain.start(), domain.stop())
        assert [one.state for one in changes] == ["starting", "running", "stopping", "off"]
        assert edges.inside == []

    asyncio.run(story())


def test_a_qemu_that_hangs_is_ended_all_the_same() -> None:
    async def story() -> None:
        domain, _ = domain_with(edges := Edges(quits=False))
        await domain.start()
        async with asyncio.timeout(2):
            await domain.stop()
        assert (domain.state, edges.inside) == (State.OFF, [])

    asyncio.run(story())


@pytest.mark.parametrize(
    ("happens", "state", "reason"),
    [
        ("qemu", State.FAILED, "QEMU died: it ended"),
        ("vtpm", State.FAILED, "the TPM died: it ended"),
        ("hang up", State.FAILED, "QEMU hung up its monitor connection"),
        ("nonsense", State.FAILED, r"QEMU ended the guest: \x1b[2J"),
        ("guest-reset", State.OFF, "guest-reset"),
    ],
)
def test_an_end_that_nobody_asked_for_is_cleared_up_after(happens: str, state: State, reason: str) -> None:
    async def story() -> None:
        domain, changes = domain_with(edges := Edges())
        await domain.start()
        if happens in edges.processes:
            edges.processes[happens].over.set()
        elif happens == "hang up":
            edges.controls[0].events.put_nowait(HostError("qmp-lost", "it hung up"))
        else:
            said = "\x1b[2J" if happens == "nonsense" else happens
            edges.controls[0].events.put_nowait(Event("SHUTDOWN", {"reason": said}))
        async with asyncio.timeout(3):
            while domain.state is State.RUNNING or edges.inside:
                await asyncio.sleep(0.01)
        assert (domain.state, domain.reason, domain.machine) == (state, reason, None)
        assert [one.state for one in changes] == ["starting", "running", state]
        await domain.stop()
        assert domain.state is State.OFF
        await starts_and_stops(domain, edges)

    asyncio.run(story())
