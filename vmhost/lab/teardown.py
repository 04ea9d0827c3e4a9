"""Take a lab down from any state, also after SIGKILL of anything: processes, namespaces, files."""

import contextlib
import os
import re
import shutil
import signal
import time
from pathlib import Path

from vmhost.commands import run
from vmhost.errors import HostError
from vmhost.names import RUN_ROOT, Lab
from vmhost.process import kill_pids
from vmhost.topology import destroy_topology, namespaces_of

MONITOR_PID, OWNER_PID = "monitor.pid", "owner.pid"
END_WITHIN_S, IN_ORDER_WITHIN_S = 5.0, 15.0
NAMESPACES = Path("/run/netns")
_OCTAL = re.compile(r"\\([0-7]{3})")


def start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot (proc(5), stat field 22); None: it is over."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None


def record_process(path: Path, pid: int) -> None:
    """Write down which process this is, so that a later one with the same pid is not taken for it.

    The pid has the first line, all that systemd reads of it (systemd.service(5), PIDFile).
    In one step: a lab that is brought up at the same time must not read half a record and take ours for an orphan.
    """
    temporary = path.with_suffix(".new")
    temporary.write_text(f"{pid}\n{start_time(pid)}\n")
    temporary.replace(path)


def recorded_process(path: Path) -> int | None:
    """Return the pid on record; None when that process is gone or nothing is on record."""
    try:
        pid, started = path.read_text().split()
        return int(pid) if start_time(int(pid)) == started else None
    except (OSError, ValueError):
        return None


def tear_down(lab: Lab, keep_pid: int | None = None, *, keep_state: bool = False) -> bool:
    """End the lab's processes and remove everything of it, but its state with `keep_state`; return whether there was anything.

    Where the state is kept, a monitor that runs ends its machines and itself first, as long as that does not take too long.
    Labs whose owner was killed together with their monitor have nobody left to clear them: they go too.
    `keep_pid` is for a monitor that takes its own lab down.
    """
    found = _remove(lab, keep_pid, keep_state=keep_state)
    if keep_pid is None:
        for orphan in orphans():
            _remove(orphan, None)
    return found


def orphans() -> list[Lab]:
    """List the labs that were to end with a process which is gone, and whose monitor is gone too."""
    found = []
    for record in sorted(RUN_ROOT.glob(f"*/{OWNER_PID}")):
        directory = record.parent
        if recorded_process(record) is None and recorded_process(directory / MONITOR_PID) is None:
            with contextlib.suppress(HostError):  # no lab's directory
                found.append(Lab(directory.name))
    return found


def _remove(lab: Lab, keep_pid: int | None, *, keep_state: bool = False) -> bool:
    found = lab.run_dir.exists() or lab.state_dir.exists()
    if keep_state:
        _end_monitor(lab, keep_pid, signal.SIGTERM, IN_ORDER_WITHIN_S)
    _end_monitor(lab, keep_pid, signal.SIGKILL, END_WITHIN_S)
    deadline = time.monotonic() + END_WITHIN_S
    while time.monotonic() < deadline:
        pids = [pid for pid in _pids_inside(lab) if pid != keep_pid]
        if not pids:
            break
        kill_pids(pids)
        time.sleep(0.05)
    found = bool(namespaces_of(lab)) or found
    destroy_topology(lab)
    for directory in (lab.run_dir,) if keep_state else (lab.run_dir, lab.state_dir):
        remove_tree(directory)
        with contextlib.suppress(OSError):  # other labs may be there
            directory.parent.rmdir()
    return found


def mounts_below(directory: Path) -> list[Path]:
    """List the mount points at or below a directory as this process sees them, innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), line.split()[4])) for line in lines]
    return [point for point in reversed(points) if point.is_relative_to(directory)]


def remove_tree(directory: Path) -> None:
    """Delete a directory, never what is mounted below it; raises HostError when a mount can't be detached.

    The monitor sees the clone mounted in the run directory: deleting through that mount deletes the clone.
    """
    directory = directory.resolve()
    for point in mounts_below(directory):
        run(["umount", "--lazy", str(point)], check=False)
    if left := mounts_below(directory):
        raise HostError("still-mounted", f"{left[0]} is mounted: {directory} is left as it is")
    shutil.rmtree(directory, ignore_errors=True)


def _pids_inside(lab: Lab) -> list[int]:
    """List the processes in the lab's namespaces: all of them are the lab's.

    Read from /proc (namespaces(7)): a tool started for this by the monitor would itself be inside.
    """
    wanted = {_inode(NAMESPACES / name) for name in namespaces_of(lab)} - {None}
    numbers = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [int(number) for number in numbers if _inode(Path("/proc", number, "ns/net")) in wanted]


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # it is over
        return None
    return status.st_dev, status.st_ino


def _end_monitor(lab: Lab, keep_pid: int | None, signum: signal.Signals, within_s: float) -> None:
    """End the monitor that `lab up` recorded, if that process is still the same."""
    pid, deadline = recorded_process(lab.run_dir / MONITOR_PID), time.monotonic() + within_s
    if pid is None or pid == keep_pid:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
    while recorded_process(lab.run_dir / MONITOR_PID) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
