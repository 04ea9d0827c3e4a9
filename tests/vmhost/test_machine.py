"""What a machine does with programs that die alone."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vmhost import machine as machine_module
from vmhost.errors import HostError
from vmhost.machine import Machine
from vmhost.process import Program, Rights, Running

# starts a child, says its pid, and waits
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1] + ".new", "w").write(str(child.pid))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(60)
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="programs are given their rights by root")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    tpm: Any = SimpleNamespace(alive=True)
    made = Machine("m", tpm, tmp_path, "d", (), tmp_path / "log")
    made.programs = tuple(
        (
            Program(
                name, (sys.executable, "-c", PARENT, str(tmp_path / name)), "", Rights(0, 0), tmp_path / "log",
                alone=alone,
            ),
            None,
        )
        for name, alone in (("first", True), ("second", True), ("all", False))
    )  # fmt: skip
    made.start_programs()
    try:
        for name in ("first", "second", "all"):
            wait(lambda name=name: (tmp_path / name).exists())
        yield made
    finally:
        made.stop_programs()


def wait(condition) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


def test_one_is_ended_with_its_children_even_when_it_is_stopped_and_comes_back(
    machine: Machine, tmp_path: Path
) -> None:
    before, child = machine.pids(), int((tmp_path / "first").read_text())
    os.kill(before["first"], 19)  # SIGSTOP
    machine.end(before["first"])
    wait(lambda: machine.has_fallen)
    wait(lambda: state(child) in ("gone", "Z"))
    assert machine.alive
    machine.revive()
    after = machine.pids()
    assert after["first"] != before["first"]
    assert {**after, "first": 0} == {**before, "first": 0}


def test_what_was_replaced_and_is_still_at_work_can_be_ended_too(machine: Machine) -> None:
    former = machine.pids()["second"]
    machine.replace("second")
    machine.end(former)
    wait(lambda: state(former) in ("gone", "Z"))
    assert not machine.has_fallen


def test_a_program_that_can_not_be_started_costs_none_that_could(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that one would be started again at each try, and nobody would end it."""
    for name in ("first", "second"):
        machine.end(machine.pids()[name])
    wait(lambda: set(machine.pids()) == {"all"})
    start = machine_module.start

    def no_second(program: Program) -> Running:
        if program.name == "second":
            raise OSError(11, "Resource temporarily unavailable")
        return start(program)

    monkeypatch.setattr(machine_module, "start", no_second)
    for _ in range(2):
        with pytest.raises(OSError, match="unavailable"):
            machine.revive()
        first = machine.pids()["first"]
    assert machine.pids()["first"] == first
    monkeypatch.undo()
    machine.revive()
    assert set(machine.pids()) == {"first", "second", "all"}
    assert machine.pids()["first"] == first


def test_nothing_else_is_ended(machine: Machine) -> None:
    for pid in (machine.pids()["all"], os.getpid(), 1, 0, -1):
        with pytest.raises(HostError) as refused:
            machine.end(pid)
        assert refused.value.code == "not-running"
    assert len(machine.pids()) == 3


def test_rejects_a_start_that_breaks_off_and_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs of it would pass for the whole."""
    start, started = machine_module.start, []

    def no_second(program: Program) -> Running:
        if program.name == "second":
            raise OSError(24, "Too many open files")
        started.append(start(program))
        return started[-1]

    tpm: Any = SimpleNamespace(alive=True)
    made = Machine("m", tpm, tmp_path, "d", (), tmp_path / "log")
    made.programs = tuple(
        (Program(name, ("sleep", "60"), "", Rights(0, 0), tmp_path / "log"), None)
        for name in ("first", "second")
    )
    monkeypatch.setattr(machine_module, "start", no_second)
    with pytest.raises(OSError, match="Too many open files"):
        made.start_programs()
    assert not made.alive
    assert [one.alive for one in started] == [False]


def test_a_program_that_can_not_be_ended_keeps_no_other_from_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Running.stop

    def stuck(one: Running) -> None:
        if one.program.name == "second":
            raise subprocess.TimeoutExpired("second", 5)
        stop(one)

    monkeypatch.setattr(Running, "stop", stuck)
    with pytest.raises(subprocess.TimeoutExpired):
        machine.stop_programs()
    assert set(machine.pids()) == {"second"}


class Tpm:
    """Stands for a TPM that can be extended once."""

    def __init__(self) -> None:
        self.alive, self.tcti = False, ""

    def start(self) -> None:
        self.alive = True

    def stop(self) -> None:
        self.alive = False


@pytest.fixture
def broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose boot failed: there was no directory for its event log."""
    tpm: Any = Tpm()
    monkeypatch.setattr(machine_module, "Tpm", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(machine_module, "measure", lambda *_: b"log")
    made = Machine("m", tpm, tmp_path, "d", (), tmp_path / "none" / "log")
    with pytest.raises(FileNotFoundError):
        made.boot()
    return made


def test_rejects_a_boot_that_breaks_off_and_leaves_the_tpm_off(broken_off: Machine) -> None:
    """A second boot would measure into what the first one has measured into."""
    assert not broken_off.tpm.alive


def test_a_machine_whose_boot_broke_off_is_booted_where_only_its_programs_are_asked_for(
    tmp_path: Path, broken_off: Machine
) -> None:
    """The monitor tries again so: programs without their TPM would fail for ever."""
    (tmp_path / "none").mkdir()
    broken_off.start_programs()
    assert broken_off.tpm.alive
    assert (tmp_path / "none" / "log").read_bytes() == b"log"
