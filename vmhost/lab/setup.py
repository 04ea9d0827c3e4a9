"""Bring a lab up: clear what an earlier one left, build the network, start the monitor, wait."""

import json
import os
import subprocess
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from authn.portmap import PortEntry
from vmhost.commands import in_namespace
from vmhost.errors import HostError
from vmhost.lab.provisioning import make_administrator_key, make_directories
from vmhost.lab.teardown import MONITOR_PID, start_time, tear_down
from vmhost.names import Lab
from vmhost.spec import LabSpec
from vmhost.topology import build_topology

READY_WITHIN_S = 60.0
PROJECT = Path(__file__).resolve().parents[2]
# The clone may lie where the services' uids can't read (below /root), and it may be edited while the lab
# runs: the lab runs a copy of the code. The environment is too large to copy: the monitor's own mount
# namespace shows it beside the code. That mount vanishes with the monitor and its children.
# Read-only: nothing that runs in the lab may change the clone.
_START = 'mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" && shift 2 && exec "$@"'


def bring_up(spec: LabSpec, owner_fd: int | None = None) -> None:
    """Bring the lab up and return once every agent runs; on failure nothing is left. Raises HostError.

    With `owner_fd` (the read end of a pipe) the lab takes itself down when the other end closes.
    """
    if os.geteuid() != 0:
        raise HostError("not-root", "the lab makes network namespaces: run this as root")
    tear_down(spec.lab)
    with ExitStack() as undo:
        undo.callback(tear_down, spec.lab)
        make_directories(spec)
        make_administrator_key(spec.lab)
        (spec.lab.run_dir / "spec.json").write_text(json.dumps(_spec_json(spec)))
        build_topology(spec)
        process = _start_monitor(spec.lab, owner_fd)
        _wait_ready(spec.lab, process)
        undo.pop_all()


def _start_monitor(lab: Lab, owner_fd: int | None) -> "subprocess.Popen[bytes]":
    code = lab.run_dir / "code"
    python = [
        str(code / ".venv/bin/python"),
        "-B",
        "-m",
        "vmhost.monitor.main",
        "monitor",
        "--lab",
        lab.name,
        "--root",
        str(code),
    ]
    owner = [] if owner_fd is None else ["--owner-fd", str(owner_fd)]
    inner = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--",
        "sh",
        "-c",
        _START,
        "sh",
        str(PROJECT),
        str(code),
    ]
    argv = in_namespace(lab.host_namespace, [*inner, *python, *owner])
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(code)}
    with (lab.run_dir / "log" / "monitor.log").open("ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment, start_new_session=True,
            pass_fds=[] if owner_fd is None else [owner_fd],
        )  # fmt: skip
    (lab.run_dir / MONITOR_PID).write_text(f"{process.pid} {start_time(process.pid)}")
    return process


def _wait_ready(lab: Lab, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if (lab.run_dir / "ready").exists():
            return
        failed = lab.run_dir / "failed"
        if failed.exists() and process.poll() is not None:
            raise HostError("start-failed", f"{failed.read_text()}\n{_logs(lab)}")
        if process.poll() is not None:
            raise HostError(
                "start-failed", f"the monitor ended with status {process.returncode}\n{_logs(lab)}"
            )
        time.sleep(0.02)
    raise HostError("start-failed", f"the lab was not up within {READY_WITHIN_S:.0f} s\n{_logs(lab)}")


def _logs(lab: Lab) -> str:
    """Quote the ends of the logs: they are gone after teardown."""
    parts = []
    for log in sorted((lab.run_dir / "log").glob("*.log")):
        text = log.read_text(errors="replace").strip()
        if text:
            parts.append(f"--- {log.name}\n{text[-1500:]}")
    return "\n".join(parts)


def _spec_json(spec: LabSpec) -> dict[str, object]:
    def entry(one: PortEntry) -> dict[str, object]:
        return {**asdict(one), "ip": str(one.ip)}

    return {
        "lab": spec.lab.name,
        "network": str(spec.network),
        "peers": [entry(one) for one in spec.peers],
        "gateway": entry(spec.gateway),
        "policy_text": spec.policy_text,
        "control_port": spec.control_port,
        "beacon_interval_ms": spec.beacon_interval_ms,
        "preapproved": spec.preapproved,
    }
