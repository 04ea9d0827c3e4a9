"""Holding a VM: what an earlier monitor left ends, another monitor's VM and everybody else are left alone."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmhost.vm.specs import open_fds
from vmhost.errors import HostError
from vmhost.vm import hold
from vmhost.vm.hold import held, holders

# holds a VM, starts a process of it that does not die of SIGTERM, and says so
MONITOR = """
import signal, subprocess, sys, time
from pathlib import Path
from vmhost.vm.hold import held
with held(Path(sys.argv[1])) as mark:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[mark])
    print(child.pid, flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def monitor(path: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Another monitor and its VM's process."""
    process = subprocess.Popen([sys.executable, "-c", MONITOR, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        yield process, child
    finally:
        process.kill()
        process.wait(5)
        process.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Tell whether a process runs: one that nobody waits for stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "web.held"


def test_what_a_killed_monitor_left_ends(path: Path) -> None:
    with monitor(path) as (process, child):
        process.kill()
        process.wait(5)
        assert alive(child)
        with held(path) as mark:
            assert not alive(child)
            assert holders(mark) == set()


def test_rejects_a_vm_that_another_monitor_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "LOCKED_WITHIN_S", 0.1)
    with monitor(path) as (process, child):
        with pytest.raises(HostError, match="another monitor does") as refused, held(path):
            pass
        assert refused.value.code == "held"
        assert process.poll() is None
        assert alive(child)


def test_somebody_elses_process_is_left_alone(path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        with held(path), held(path.with_name("db.held")):
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait(5)


def test_who_reads_the_file_is_left_alone(path: Path) -> None:
    path.touch()
    reader = subprocess.Popen(["sh", "-c", 'exec sleep 60 <"$1"', "sh", str(path)])
    try:
        while not Path(f"/proc/{reader.pid}/fd/0").samefile(path):
            pass
        with held(path) as mark:
            assert holders(mark) == set()
            assert reader.poll() is None
    finally:
        reader.kill()
        reader.wait(5)


def test_another_vms_process_that_is_being_started_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between fork and exec it has all that the monitor has open, this VM's mark too."""
    children: list[int] = []
    lock = hold._lock

    def locked(fd: int, where: Path) -> None:
        lock(fd, where)
        if (pid := os.fork()) == 0:
            signal.pause()
            os._exit(0)
        children.append(pid)

    monkeypatch.setattr(hold, "_lock", locked)
    try:
        with held(path):
            assert alive(children[0])
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_a_pid_that_is_anothers_by_now_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ended between the look and the kill, and its pid was given to another."""
    bystander = subprocess.Popen(["sleep", "60"])
    found = iter([{bystander.pid}, set()])
    monkeypatch.setattr(hold, "holders", lambda _mark: next(found))
    try:
        with held(path):
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait(5)


def test_what_can_not_be_ended_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "ENDED_WITHIN_S", 0.1)
    monkeypatch.setattr(hold, "_kill", lambda _pid, _mark: None)  # in the kernel, waiting for a disk
    with monitor(path) as (process, child):
        process.kill()
        process.wait(5)
        with pytest.raises(HostError, match=f"got \\[{child}\\] after SIGKILL") as refused, held(path):
            pass
        assert refused.value.code == "not-ended"


def test_it_may_be_held_again_and_nothing_stays_open(path: Path) -> None:
    before = open_fds()
    for _ in range(2):
        with held(path) as mark:
            assert not os.get_inheritable(mark)
    assert open_fds() == before
    assert path.stat().st_mode & 0o777 == 0o600


def test_rejects_a_link_in_its_place(path: Path) -> None:
    path.symlink_to("/etc/passwd")
    with pytest.raises(HostError) as refused, held(path):
        pass
    assert refused.value.code == "hold-failed"
