"""A TPM's power: on with all its processes, or off."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vmhost import names, swtpm
from vmhost.errors import HostError
from vmhost.names import Lab
from vmhost.process import Program
from vmhost.swtpm import VirtualTpm


class Process:
    """Stands for a process that was started."""

    def __init__(self, program: Program) -> None:
        self.program, self.alive, self.stuck = program, True, False

    def stop(self) -> None:
        if self.stuck:
            raise subprocess.TimeoutExpired(self.program.name, 5)
        self.alive = False


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    processes: list[Process] = []

    def start(program: Program) -> Process:
        processes.append(Process(program))
        return processes[-1]

    monkeypatch.setattr(swtpm, "start", start)
    monkeypatch.setattr(swtpm, "wait_for_socket", lambda *_: True)
    return processes


@pytest.fixture
def tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VirtualTpm:
    monkeypatch.setattr(names, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr(names, "STATE_ROOT", tmp_path / "state")
    return VirtualTpm.of(Lab("l"), "web", "", os.getuid(), os.getgid(), ("python3",), {})


def test_rejects_a_start_whose_second_process_is_refused_and_leaves_it_off(
    tpm: VirtualTpm, started: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one alone would pass for a TPM that is on."""
    start: Any = swtpm.start

    def no_share(program: Program) -> Process:
        if program.name.startswith("tpm-"):
            raise OSError(24, "Too many open files")
        process: Process = start(program)
        return process

    monkeypatch.setattr(swtpm, "start", no_share)
    with pytest.raises(OSError, match="Too many open files"):
        tpm.start()
    assert [one.alive for one in started] == [False]
    assert not tpm.alive


def test_rejects_a_process_that_does_not_listen(
    tpm: VirtualTpm, started: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swtpm, "wait_for_socket", lambda *_: False)
    with pytest.raises(HostError, match="swtpm-web did not come up"):
        tpm.start()
    assert [one.alive for one in started] == [False]
    assert not tpm.alive


def test_a_process_that_can_not_be_ended_keeps_no_other_from_it(
    tpm: VirtualTpm, started: list[Process]
) -> None:
    tpm.start()
    started[1].stuck = True
    with pytest.raises(subprocess.TimeoutExpired):
        tpm.stop()
    assert [one.alive for one in started] == [False, True]
    started[1].stuck = False
    tpm.stop()
    assert [one.alive for one in started] == [False, False]
    assert not tpm.alive
