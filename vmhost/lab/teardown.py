"""Take a lab down from any state, also after SIGKILL of anything: processes, namespaces, files."""

import contextlib
import os
import shutil
import time
from pathlib import Path

from vmhost.commands import run
from vmhost.names import Lab
from vmhost.process import kill_pids
from vmhost.topology import destroy_topology, namespaces_of

MONITOR_PID = "monitor.pid"


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
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):  # other labs may be there
            directory.parent.rmdir()
    return found


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
