"""Taking down: exactly what belongs to the lab, from any state, and never what is mounted below it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmhost.commands import in_namespace, run
from vmhost.lab import teardown
from vmhost.lab.teardown import (
    MONITOR_PID,
    OWNER_PID,
    mounts_below,
    orphans,
    record_process,
    recorded_process,
    remove_tree,
    start_time,
    tear_down,
)
from vmhost.names import Lab
from vmhost.topology import namespaces_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and namespaces need root")


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab(f"td{os.getpid()}")
    lab.run_dir.mkdir(parents=True)
    lab.state_dir.mkdir(parents=True)
    yield lab
    tear_down(lab)


@pytest.fixture
def gone() -> int:
    """The pid of a process that is over."""
    process = subprocess.Popen(["true"])
    process.wait(5)
    return process.pid


def test_a_process_is_known_by_pid_and_start_time(tmp_path: Path, gone: int) -> None:
    record = tmp_path / "pid"
    record_process(record, os.getpid())
    assert recorded_process(record) == os.getpid()
    record.write_text(f"{os.getpid()} 1")  # the same pid, another process
    assert recorded_process(record) is None
    record_process(record, gone)
    assert recorded_process(record) is None


def test_a_record_is_never_read_by_halves(tmp_path: Path) -> None:
    record, over = tmp_path / "owner.pid", threading.Event()
    record_process(record, os.getpid())

    def write() -> None:
        while not over.is_set():
            record_process(record, os.getpid())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert {recorded_process(record) for _ in range(3000)} == {os.getpid()}
    finally:
        over.set()
        writer.join()


@pytest.mark.parametrize("text", ["", "x", "1", "1 2 3", "x y", "-5 7"])
def test_a_torn_record_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert recorded_process(tmp_path / "pid") is None
    assert recorded_process(tmp_path / "missing") is None


def test_a_zombie_is_over() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(process.pid) is None
    process.wait(5)


# The tree that must survive is mounted into the one that is deleted, in a mount namespace of its own, as
# the monitor sees the clone.
@needs_root
@pytest.mark.parametrize("directory", ["run", "run with a space"])
def test_what_is_mounted_below_survives(tmp_path: Path, directory: str) -> None:
    precious, doomed = tmp_path / "precious", tmp_path / directory
    (precious / ".git").mkdir(parents=True)
    (precious / "file").write_text("kept")
    (doomed / "code" / "deep").mkdir(parents=True)
    (doomed / "setup.json").write_text("{}")
    script = (
        'mount --bind "$1" "$2/code" && mount --bind "$1" "$2/code/.git" && exec "$3" -c '
        '"import sys; from pathlib import Path; from vmhost.lab.teardown import remove_tree;'
        'remove_tree(Path(sys.argv[1]))" "$2"'
    )
    unshare = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", script, "sh"]
    subprocess.run([*unshare, str(precious), str(doomed), sys.executable], check=True)
    assert not doomed.exists()
    assert (precious / "file").read_text() == "kept"
    assert (precious / ".git").is_dir()


def test_mounts_are_found_by_whole_path_components(tmp_path: Path) -> None:
    assert mounts_below(tmp_path) == []
    assert Path("/proc") in mounts_below(Path("/proc"))
    assert mounts_below(Path("/pro")) == []


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "never")


@needs_root
def test_taking_down_twice_is_no_error(lab: Lab) -> None:
    assert tear_down(lab)
    assert not tear_down(lab)
    assert not lab.run_dir.exists()
    assert not lab.state_dir.exists()


@needs_root
@pytest.mark.netns
def test_half_built_it_goes_with_every_process_inside(lab: Lab) -> None:
    run(["ip", "netns", "add", lab.host_namespace])
    run(["ip", "netns", "add", lab.peer_namespace("web")])
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    inside = subprocess.Popen(in_namespace(lab.peer_namespace("web"), [sys.executable, "-c", stubborn]))
    while not run(["ip", "netns", "pids", lab.peer_namespace("web")]).split():
        pass
    assert tear_down(lab)
    assert inside.wait(5) == -9
    assert namespaces_of(lab) == []


@needs_root
@pytest.mark.netns
def test_another_lab_and_a_reused_pid_are_left_alone(lab: Lab) -> None:
    other = Lab(f"{lab.name}x")
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (lab.run_dir / MONITOR_PID).write_text(f"{bystander.pid} 1")
        other.run_dir.mkdir()
        record_process(other.run_dir / OWNER_PID, os.getpid())
        run(["ip", "netns", "add", other.host_namespace])
        tear_down(lab)
        assert bystander.poll() is None
        assert other.run_dir.exists()
        assert namespaces_of(other) == [other.host_namespace]
    finally:
        bystander.kill()
        bystander.wait(5)
        tear_down(other)


@needs_root
def test_a_lab_whose_owner_and_monitor_were_killed_goes_with_the_next(lab: Lab, gone: int) -> None:
    orphan = Lab(f"{lab.name}o")
    orphan.run_dir.mkdir()
    record_process(orphan.run_dir / OWNER_PID, gone)
    assert orphan in orphans()
    record_process(orphan.run_dir / MONITOR_PID, os.getpid())  # its monitor lives: it clears itself
    assert orphan not in orphans()
    record_process(orphan.run_dir / MONITOR_PID, gone)
    tear_down(lab)
    assert not orphan.run_dir.exists()


@needs_root
def test_a_lab_that_nobody_owns_stays_until_it_is_taken_down(lab: Lab) -> None:
    lasting = Lab(f"{lab.name}l")
    lasting.run_dir.mkdir()
    try:
        tear_down(lab)
        assert lasting.run_dir.exists()
    finally:
        tear_down(lasting)


@pytest.mark.parametrize(
    ("keep_state", "obeys", "status"), [(True, True, 7), (True, False, -9), (False, True, -9)]
)
def test_a_monitor_ends_in_order_where_the_state_is_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, keep_state: bool, obeys: bool, status: int
) -> None:
    monkeypatch.setattr(teardown, "IN_ORDER_WITHIN_S", 5.0 if obeys else 0.2)
    trap = "trap 'exit 7' TERM" if obeys else "trap '' TERM"
    script = f"{trap}; echo ready; while :; do sleep 0.02; done"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as monitor:
        assert monitor.stdout is not None
        monitor.stdout.readline()
        record_process(lab.run_dir / MONITOR_PID, monitor.pid)
        tear_down(lab, keep_state=keep_state)
        assert monitor.poll() == status
