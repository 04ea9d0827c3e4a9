"""Start programs of the lab with the least they need, and end exactly those."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vmhost.commands import in_namespace

MAX_LOG = 4 << 20
SO_ACCEPTCON = 0x10000  # linux/net.h: the socket listens
KEEP_ID = (1 << 32) - 1  # "leave it as it is" to the kernel: who asks for it stays root


@dataclass(frozen=True, slots=True)
class Rights:
    """Who a program runs as, and which capabilities it keeps."""

    uid: int
    gid: int
    capabilities: tuple[str, ...] = ()

    @property
    def unprivileged(self) -> bool:
        """Tell whether uid and gid are somebody's who is not root."""
        return all(0 < one < KEEP_ID for one in (self.uid, self.gid))


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run: pure data."""

    name: str
    argv: tuple[str, ...]
    namespace: str
    rights: Rights
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False  # its death is not its machine's: it is started again by itself
    inherited: tuple[int, ...] = ()  # open files it gets under their numbers

    def command(self) -> list[str]:
        """Return the whole command: enter the namespace ("": stay), drop every right but the listed ones, run."""
        kept = ",".join(["-all", *(f"+{name}" for name in self.rights.capabilities)])
        drop = [
            "setpriv", f"--reuid={self.rights.uid}", f"--regid={self.rights.gid}", "--clear-groups", "--no-new-privs",
            f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}", "--", *self.argv,
        ]  # fmt: skip
        return in_namespace(self.namespace, drop) if self.namespace else drop


@dataclass(slots=True)
class Running:
    """A program that was started."""

    program: Program
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        """Tell whether it still runs."""
        return self.process.poll() is None

    def stop(self, grace_s: float = 1.0) -> None:
        """End it: SIGTERM, then SIGKILL. A stopped (SIGSTOP) program is killed too."""
        if self.alive:
            self.process.terminate()
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(5)


def start(program: Program) -> Running:
    """Start a program in a session of its own, its output going to its log."""
    program.log.parent.mkdir(parents=True, exist_ok=True)
    if is_large(program.log):
        program.log.replace(program.log.with_suffix(".old"))
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **program.environment}
    with program.log.open("ab") as log:
        process = subprocess.Popen(
            program.command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd="/",
            start_new_session=True,
            pass_fds=program.inherited,
        )
    return Running(program, process)


def is_large(log: Path) -> bool:
    """Tell whether a log takes more than its share of the disk, by what it says or by what was set aside for it."""
    try:
        return room_of(log.stat()) > MAX_LOG
    except OSError:
        return False


def room_of(found: os.stat_result) -> int:
    """Return a file's bytes, or those that were set aside for it where these are more."""
    return max(found.st_size, found.st_blocks * 512)


def wait_for_socket(path: Path, running: Running, within_s: float = 10.0) -> bool:
    """Wait until a program listens on its socket; False when it died or took too long.

    The file appears with bind(2); who connects before listen(2) is refused, so the file alone says too little.
    """
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and running.alive:
        if path.is_socket() and listens(path, running.process.pid):
            return True
        time.sleep(0.01)
    return False


def listens(path: Path, pid: int) -> bool:
    """Tell whether somebody listens on a unix socket, as the program's network namespace has it (/proc/net/unix)."""
    try:
        rows = Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]
    except OSError:
        return False
    fields = (row.split(maxsplit=7) for row in rows)
    return any(one[7:] == [str(path)] and int(one[3], 16) & SO_ACCEPTCON for one in fields)


def kill_pids(pids: Sequence[int]) -> None:
    """Kill processes by pid; those that are gone already don't matter."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
