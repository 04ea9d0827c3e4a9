"""A monitor killed after any step of a start, and in the midst of them: the next one starts the VM as if nothing was."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.vmhost.vm.real import Place, clean_place
from vmhost.lab.setup import PROJECT
from vmhost.vm.domain import Domain, State
from vmhost.vm.host import Host
from vmhost.vm.identity import identify

pytestmark = [pytest.mark.netns, pytest.mark.tpm]
STEPS = ("held", "run_dir", "firmware", "console", "vtpm", "files", "qemu", "control")
RUNNING = "running"  # behind the last step
UP_WITHIN_S, INSTANTS = 0.5, 8


class DyingHost:
    """The steps of a start, in a monitor that is killed after one of them."""

    def __init__(self, host: Host, last: str) -> None:
        self._host, self._last = host, last

    def __getattr__(self, name: str) -> Any:
        step = getattr(self._host, name)
        if name != self._last:
            return step
        return _checked_then_die(step) if name == "firmware" else _entered_then_die(step)


def _checked_then_die(step: Any) -> Any:
    async def check(*arguments: Any) -> None:
        await step(*arguments)
        die()

    return check


def _entered_then_die(step: Any) -> Any:
    @asynccontextmanager
    async def enter(*arguments: Any) -> Any:
        manager: AbstractAsyncContextManager[Any] = step(*arguments)
        async with manager as value:
            die()
            yield value

    return enter


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(root: str, namespace: str, last: str) -> None:
    """Be the monitor that is killed."""
    here = Place(Path(root), namespace)
    spec = here.spec()

    async def start() -> None:
        await Domain(spec, DyingHost(here.host(spec), last)).start()  # type: ignore[arg-type]
        if last == RUNNING:
            die()
        await asyncio.sleep(60)

    asyncio.run(start())


def monitor(here: Place, last: str) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-m", "tests.vmhost.vm.test_killed", str(here.root), here.namespace, last]
    return subprocess.Popen(argv, cwd=PROJECT, stderr=subprocess.PIPE)


@pytest.fixture
def here() -> Iterator[Place]:
    with clean_place("k") as one:
        yield one


async def start_anew(here: Place) -> None:
    """Start it under another monitor: it runs, once; and it can be stopped."""
    domain = here.domain()
    await domain.start()
    assert domain.state is State.RUNNING
    assert domain.machine is not None
    assert sorted(here.processes()) == sorted([domain.machine.qemu.pid, domain.machine.vtpm.pid])
    assert here.tap_in_use()
    await domain.stop()


@pytest.mark.parametrize("last", [*STEPS, RUNNING])
def test_a_monitor_killed_after_a_step_and_started_again(here: Place, last: str) -> None:
    with monitor(here, last) as killed:
        assert killed.wait(20) == -signal.SIGKILL, killed.stderr and killed.stderr.read()
    # what it leaves: a TPM from its step on, QEMU from its step on
    assert len(here.processes()) == (last in STEPS[4:] or last == RUNNING) + (last in (*STEPS[6:], RUNNING))
    asyncio.run(start_anew(here))


def test_a_monitor_killed_at_any_instant_and_started_again(here: Place) -> None:
    for instant in sorted(random.Random(time.time_ns()).uniform(0, UP_WITHIN_S) for _ in range(INSTANTS)):
        print(f"killed after {instant:.3f} s")
        with monitor(here, "never") as process:
            deadline = time.monotonic() + 20
            while not (here.root / "tpm-state.held").exists() and time.monotonic() < deadline:
                time.sleep(0.001)  # until its start begins
            time.sleep(instant)
            process.kill()
            assert process.wait(20) == -signal.SIGKILL, process.stderr and process.stderr.read()
        asyncio.run(start_anew(here))
        (here.root / "tpm-state.held").unlink()


def test_a_monitor_started_again_clears_up_where_it_first_asks_for_the_keys(here: Place) -> None:
    with monitor(here, RUNNING) as killed:
        killed.wait(20)
    assert len(here.processes()) == 2
    identify(here.host(here.spec()).vtpm_spec, here.vtpm_key)
    assert here.processes() == []
    for socket in ("qmp.sock", "recovery.sock", "swtpm.ctrl"):
        (here.root / "run/guest" / socket).unlink()  # a start binds them anew


if __name__ == "__main__":
    main(*sys.argv[1:])
