"""Take a lab down from any state, also after SIGKILL of anything: processes, namespaces, files."""

import contextlib
import os
import re
import shutil
import time
from pathlib import Path

from vmhost.commands import run
from vmhost.errors import HostError
from vmhost.names import Lab
from vmhost.process import kill_pids
from vmhost.topology import destroy_topology, namespaces_of

MONITOR_PID = "monitor.pid"
_OCTAL = re.compile(r"\\([0-7]{3})")


def start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot (proc(5), stat field 22); None: gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def tear_down(lab: Lab, keep_pid: int | None = None) -> bool:
    """End the lab's processes and remove everything of it; return whether there was anything."""
    found = lab.run_dir.exists() or lab.state_dir.exists()
    _end_monitor(lab, keep_pid)
    for _ in range(5):
        pids = [pid for pid in _pids_inside(lab) if pid != keep_pid]
        if not pids:
            break
        kill_pids(pids)
        time.sleep(0.05)
    found = bool(namespaces_of(lab)) or found
    destroy_topology(lab)
    for directory in (lab.run_dir, lab.state_dir):
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
    """List the processes in the lab's namespaces: all of them are the lab's."""
    pids: list[int] = []
    for namespace in namespaces_of(lab):
        pids += [int(line) for line in run(["ip", "netns", "pids", namespace], check=False).split()]
    return pids


def _end_monitor(lab: Lab, keep_pid: int | None) -> None:
    """End the monitor that `lab up` recorded, if that process is still the same."""
    try:
        text = (lab.run_dir / MONITOR_PID).read_text().split()
        pid, started = int(text[0]), text[1]
    except (OSError, ValueError, IndexError):
        return
    if pid != keep_pid and start_time(pid) == started:
        kill_pids([pid])
        deadline = time.monotonic() + 5
        while start_time(pid) == started and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.01)
