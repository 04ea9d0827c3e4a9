"""Have a VM to oneself: no other monitor runs it, and nothing that an earlier one started is left of it.

A monitor that is killed leaves swtpm and QEMU behind, at whatever step it was. Every process of a VM inherits one
open file, the VM's mark: who has it open is the kernel's word (proc(5)), from the fork on. No pid on record is
believed, it may be somebody else's by now. Who reads the file, for a backup say, has opened it himself: the mark is told
from that by its position, which stays where the monitor set it, far behind the empty file's end.
"""

import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vmhost.errors import HostError

# what another monitor's child holds between fork and exec is gone by then
LOCKED_WITHIN_S = 1.0
ENDED_WITHIN_S = 5.0
MARK_AT = 0x51E0A7E6
_PAUSE_S = 0.01


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold a VM by its file, end what is left of an earlier start, and give the mark to inherit. Raises HostError."""
    with ExitStack() as undo:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            undo.callback(os.close, lock)
            mark = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            undo.callback(os.close, mark)
        except OSError as error:
            raise HostError(
                "hold-failed",
                f"{path}: opening the VM's mark: expected a writable directory, got {error}; free space on it",
            ) from error
        _lock(lock, path)
        _end_leftovers(mark, path)
        # not before: another VM's process that this monitor is just starting has it open too, until its exec
        os.lseek(mark, MARK_AT, os.SEEK_SET)
        yield mark


def _lock(fd: int, path: Path) -> None:
    """Lock the file; only who has opened it himself keeps such a lock, so it ends with its monitor (flock(2))."""
    deadline = time.monotonic() + LOCKED_WITHIN_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() >= deadline:
                raise HostError(
                    "held",
                    f"{path}: locking the VM: expected that nobody runs it, got {error}; another monitor does: "
                    "stop the VM there, or end that monitor",
                ) from error
            time.sleep(_PAUSE_S)
        else:
            return


def _end_leftovers(mark: int, path: Path) -> None:
    """Kill whoever has the mark open but us: we have the lock, so nobody else is of a monitor that lives."""
    deadline = time.monotonic() + ENDED_WITHIN_S
    while left := holders(mark):
        if time.monotonic() >= deadline:
            raise HostError(
                "not-ended",
                f"{path}: ending what an earlier monitor left: expected no process, got {sorted(left)} after SIGKILL; "
                "see what they wait for in /proc/PID/stack",
            )
        for pid in left:
            _kill(pid, mark)


def _kill(pid: int, mark: int) -> None:
    """Kill a process if it is one of the VM's, also when the pid is being used anew meanwhile; wait for its end."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _has_open(pid, os.fstat(mark)):  # else the pid is another's since: ours is over
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], ENDED_WITHIN_S)
    except ProcessLookupError:
        return
    finally:
        os.close(process)


def holders(mark: int) -> set[int]:
    """List the processes, but this one, that have the mark open."""
    wanted, me = os.fstat(mark), os.getpid()
    pids = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())
    return {pid for pid in pids if pid != me and _has_open(pid, wanted)}


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)  # noqa: PTH208 - a Path for each would take ten times as long
    except OSError:  # it is over
        return False
    for name in names:
        try:
            found = os.stat(f"{directory}/{name}")  # noqa: PTH116
        except OSError:
            continue
        same = (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)
        if same and _position(pid, name) == MARK_AT:
            return True
    return False


def _position(pid: int, fd: str) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split()[1])
    except (OSError, ValueError, IndexError):  # it is over
        return None
