"""What an inspector and its judges may do once they run: read code and rules, keep large objects, and nothing else.

What is there of Landlock and seccomp is used; `confine_…` return what was, for the log and `quotegate status`.
"""

import multiprocessing
import socket
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

from filters.confinement.landlock import landlock_abi, restrict_files
from filters.confinement.seccomp import restrict_calls

_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/magic", "/etc/localtime", "/dev/urandom")


def start_forkserver() -> None:
    """Start what judges are forked from, while a program may still be started."""
    multiprocessing.set_forkserver_preload(["filters.inspection.worker.judge_process"])
    forkserver.ensure_running()


def confine_inspector(material: Path | None) -> list[str]:
    """Confine this process; call `start_forkserver` before. Raises OSError."""
    # /dev/shm: the semaphores of the judges' queues
    return _confine(material, (Path("/dev/shm"),), alone=False)  # noqa: S108


def confine_judge() -> list[str]:
    """Confine a judging process: it parses whole objects, and speaks through its pipes only. Raises OSError."""
    return _confine(None, (), alone=True)


def _confine(material: Path | None, writable: tuple[Path, ...], *, alone: bool) -> list[str]:
    package = Path(__file__).parents[2]
    code = [package, *(Path(one) for one in (sys.prefix, sys.base_prefix, *sys.path, *_SYSTEM) if one)]
    if material is not None:
        code.append(material)
    done = []
    temporary = Path(tempfile.gettempdir())
    if restrict_files(code, (temporary, Path("/dev/null"), *writable), alone=alone):
        done.append(f"landlock {landlock_abi()}")
    # with unix sockets both speak to clamd where there is one, and an inspector to its neighbours
    if restrict_calls(families=(socket.AF_UNIX,)):
        done.append("seccomp")
    return done
