"""SIGKILL of whoever runs a lab, at random instants: it clears itself or the next command clears it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmhost.lab.setup import PROJECT
from vmhost.lab.teardown import MONITOR_PID, recorded_process, tear_down
from vmhost.measured_boot import code_digest
from vmhost.names import Lab
from vmhost.topology import namespaces_of

pytestmark = [
    pytest.mark.lab,
    pytest.mark.netns,
    pytest.mark.tpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab needs root"),
]
# brings a lab up that it owns, says so, and waits
OWNER = """
import os, sys, time
from vmhost.errors import HostError
from vmhost.lab.defaults import default_spec
from vmhost.lab.setup import bring_up
from vmhost.names import Lab
read, write = os.pipe()
try:
    bring_up(default_spec(Lab(sys.argv[1]), 2), read)
except HostError as error:
    sys.exit(error.code)
print("up", flush=True)
time.sleep(600)
"""
UP_WITHIN_S = 4.0
INSTANTS = 4


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab(f"tk{os.getpid()}")
    files, digest = sum(1 for _ in (PROJECT / ".venv").rglob("*.py")), code_digest(PROJECT)
    yield lab
    tear_down(lab)
    assert sum(1 for _ in (PROJECT / ".venv").rglob("*.py")) == files
    assert code_digest(PROJECT) == digest  # the clone is mounted in the lab: it must outlive it


@contextmanager
def owner_of(lab: Lab) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, lab.name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def leftovers(lab: Lab) -> list[str]:
    found = namespaces_of(lab)
    found += [str(path) for path in (lab.run_dir, lab.state_dir) if path.exists()]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if f"/{lab.name}/" in line]
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if entry.name.isdigit() and any(f"/{lab.name}/" in word for word in words):
            found.append(" ".join(words))
    return found


def wait_clean(lab: Lab, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while (left := leftovers(lab)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def wait_up(owner: "subprocess.Popen[str]") -> None:
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n", owner.communicate()[1]


def monitor_of(lab: Lab) -> int | None:
    return recorded_process(lab.run_dir / MONITOR_PID)


def instants(salt: int) -> list[float]:
    return sorted(random.Random(salt + time.time_ns()).uniform(0.1, UP_WITHIN_S) for _ in range(INSTANTS))


def test_a_running_lab_ends_with_its_owner(lab: Lab) -> None:
    with owner_of(lab) as owner:
        wait_up(owner)
        assert len(leftovers(lab)) > 10
    wait_clean(lab)


def test_an_owner_killed_at_any_instant_leaves_nothing(lab: Lab) -> None:
    for instant in instants(1):
        print(f"killed after {instant:.3f} s")
        with owner_of(lab):
            time.sleep(instant)
        if monitor_of(lab) is None:
            time.sleep(0.2)  # a tool that was under way ends
            tear_down(lab)
        wait_clean(lab)


def test_a_monitor_killed_at_any_instant_leaves_nothing_after_down(lab: Lab) -> None:
    for instant in instants(2):
        print(f"killed after {instant:.3f} s")
        with owner_of(lab) as owner:
            deadline = time.monotonic() + instant
            while time.monotonic() < deadline or (monitor := monitor_of(lab)) is None:
                time.sleep(0.01)
            os.kill(monitor, signal.SIGKILL)
            if owner.stdout is not None and owner.stdout.readline() == "":  # it came before the lab was up
                assert owner.wait(20) != 0
                assert leftovers(lab) == []
            tear_down(lab)
            assert leftovers(lab) == []


def test_owner_and_monitor_killed_together_are_cleared_by_the_next_command(lab: Lab) -> None:
    with owner_of(lab) as owner:
        wait_up(owner)
        monitor = monitor_of(lab)
        assert monitor is not None
        owner.kill()
        os.kill(monitor, signal.SIGKILL)
        owner.wait(5)
    tear_down(Lab("tk-another"))
    assert leftovers(lab) == []


def test_a_teardown_killed_at_any_instant_can_be_repeated(lab: Lab) -> None:
    down = "import sys; from vmhost.lab.teardown import tear_down; from vmhost.names import Lab; tear_down(Lab(sys.argv[1]))"
    for _ in range(2):
        with owner_of(lab) as owner:
            wait_up(owner)
            for _ in range(3):
                ending = subprocess.Popen([sys.executable, "-c", down, lab.name], cwd=PROJECT)
                time.sleep(random.uniform(0.05, 0.4))
                ending.kill()
                ending.wait(5)
            tear_down(lab)
            assert leftovers(lab) == []


def test_a_lab_that_was_killed_comes_up_again(lab: Lab) -> None:
    with owner_of(lab) as owner:
        wait_up(owner)
        monitor = monitor_of(lab)
        assert monitor is not None
        os.kill(monitor, signal.SIGKILL)
        with owner_of(lab) as second:
            wait_up(second)
    wait_clean(lab)
