"""Bring a lab up, anew or with the state that was kept: clear what an earlier one left, build the network, start the monitor, wait."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vmhost.commands import in_namespace
from vmhost.errors import HostError
from vmhost.lab.code import ENVIRONMENT, MOUNT_ENVIRONMENT, copy_code
from vmhost.lab.kept import keep_last_words, kept_spec, noted_off, put_back, spec_file, write_spec
from vmhost.lab.provisioning import make_administrator_key, make_directories
from vmhost.lab.renewal import demand_valid, renew
from vmhost.lab.teardown import MONITOR_PID, OWNER_PID, record_process, recorded_process, tear_down
from vmhost.names import Lab
from vmhost.spec import LabSpec
from vmhost.topology import build_topology
from vmhost.vm.accelerator import OVERRIDE

READY_WITHIN_S, VM_READY_WITHIN_S = 60.0, 240.0
PROJECT = Path(__file__).resolve().parents[2]


def bring_up(spec: LabSpec, owner_fd: int | None = None) -> None:
    """Bring the lab up and return once every agent runs; on failure nothing is left. Raises HostError.

    With `owner_fd` (the read end of a pipe) the lab takes itself down when the other end closes.
    """
    demand_root()
    tear_down(spec.lab)
    with _files_that_services_read(), ExitStack() as undo:
        undo.callback(tear_down, spec.lab)
        make_directories(spec)
        if owner_fd is not None:
            record_process(spec.lab.run_dir / OWNER_PID, os.getpid())
        make_administrator_key(spec.lab)
        _start(spec, owner_fd)
        undo.pop_all()


def is_up(lab: Lab) -> bool:
    """Tell whether the lab's monitor runs."""
    return recorded_process(lab.run_dir / MONITOR_PID) is not None


def bring_back(lab: Lab, days: int | None = None) -> LabSpec:
    """Start a lab's virtual machines again with the state that was kept, and return once every agent runs.

    With `days` what is signed for it holds that long from now; without, what ran out starts nothing. A failure keeps the
    state. Raises HostError.
    """
    demand_root()
    spec = kept_spec(lab)  # before anything is said of a monitor: there may be nothing to come back to
    if is_up(lab):
        raise HostError(
            "already-up",
            f"lab {lab.name}: expected no monitor, found one that runs; nothing was changed: to start all machines anew, "
            f"quotegate lab down --keep --lab {lab.name} first",
        )
    noted_off(lab)  # the monitor needs it too: what it could not read is refused before anything is ended
    if days is None:
        demand_valid(spec)
    keep_last_words(lab)
    tear_down(lab, keep_state=True)
    if days is not None:
        spec = renew(spec, days)
    with _files_that_services_read(), ExitStack() as undo:
        undo.callback(tear_down, lab, keep_state=True)
        make_directories(spec)
        put_back(lab)
        _start(spec, None)
        undo.pop_all()
    return spec


def demand_root() -> None:
    """Refuse whoever is not root; raises HostError."""
    if os.geteuid() != 0:
        raise HostError("not-root", "the lab's network namespaces and processes are root's: run this as root")


@contextmanager
def _files_that_services_read() -> Iterator[None]:
    umask = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(umask)


def _start(spec: LabSpec, owner_fd: int | None) -> None:
    """Start the monitor between its machines' ports, and wait; raises HostError."""
    # the clone may lie where the services' uids can't read (below /root), and be edited while the lab runs
    copy_code(PROJECT, spec.lab.run_dir / "code")
    write_spec(spec_file(spec.lab.run_dir), spec)
    build_topology(spec)
    process = _start_monitor(spec.lab, owner_fd)
    _wait_ready(spec.lab, process, VM_READY_WITHIN_S if spec.images else READY_WITHIN_S)


def _start_monitor(lab: Lab, owner_fd: int | None) -> "subprocess.Popen[bytes]":
    code = lab.run_dir / "code"
    monitor = ["-m", "vmhost.monitor.main", "monitor", "--lab", lab.name, "--root", str(code)]
    python = [str(code / ENVIRONMENT / "bin/python"), "-B", *monitor]
    owner = [] if owner_fd is None else ["--owner-fd", str(owner_fd)]
    mount = ["sh", "-c", MOUNT_ENVIRONMENT, "sh", str(PROJECT / ENVIRONMENT), str(code / ENVIRONMENT)]
    inner = ["unshare", "--mount", "--propagation", "private", "--", *mount]
    argv = in_namespace(lab.host_namespace, [*inner, *python, *owner])
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(code)}
    environment |= {name: os.environ[name] for name in (OVERRIDE,) if name in os.environ}
    with lab.monitor_log.open("ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment, start_new_session=True,
            pass_fds=[] if owner_fd is None else [owner_fd],
        )  # fmt: skip
    record_process(lab.run_dir / MONITOR_PID, process.pid)
    return process


def _wait_ready(lab: Lab, process: "subprocess.Popen[bytes]", within_s: float) -> None:
    deadline, why = time.monotonic() + within_s, ""
    while time.monotonic() < deadline:
        if (lab.run_dir / "ready").exists():
            return
        # a monitor that was given an owner clears everything away, the reason too
        why = why or _failure(lab)
        if process.poll() is not None:
            ended = f"the monitor ended with status {process.returncode}\n{last_lines(lab)}"
            raise HostError("start-failed", why or ended)
        time.sleep(0.02)
    raise HostError("start-failed", f"the lab was not up within {within_s:.0f} s\n{last_lines(lab)}")


def _failure(lab: Lab) -> str:
    """Return why the monitor could not start everything, with the logs; "" while it has said nothing."""
    try:
        why = (lab.run_dir / "failed").read_text()
    except FileNotFoundError:
        return ""
    return why and f"{why}\n{last_lines(lab)}"


def last_lines(lab: Lab) -> str:
    """Quote the ends of the logs: they are gone after teardown."""
    parts = []
    consoles = lab.run_dir.glob("vms/*/console.log")
    for log in sorted([*(lab.run_dir / "log").glob("*.log"), *consoles]):
        try:
            text = log.read_text(errors="replace").strip()
        except FileNotFoundError:  # a monitor that failed is clearing everything away
            continue
        if text:
            parts.append(f"--- {log.relative_to(lab.run_dir)}\n{text[-1500:]}")
    return "\n".join(parts)
