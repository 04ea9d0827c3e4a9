"""A monitor over real TPMs and namespaces, with small stand-ins for the gateway's and the guests' programs."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from authn.evidence import Counters
from authn.pcr import PcrSelection
from authn.tpm import Tpm
from vmhost.commands import run
from vmhost.lab.code import copy_code
from vmhost.lab.defaults import default_spec
from vmhost.lab.provisioning import LabPaths, make_administrator_key, make_directories
from vmhost.lab.setup import PROJECT
from vmhost.lab.teardown import tear_down
from vmhost.monitor.client import ask
from vmhost.monitor.monitor import Monitor
from vmhost.monitor.programs import Launcher, Programs
from vmhost.monitor.server import MonitorServer
from vmhost.names import AGENT_UID, GATEWAY, GATEWAY_UID, NETD_UID, Lab
from vmhost.spec import LabSpec
from vmhost.topology import namespaces_of

# listens, says it is well; ends at once while the file exists that the second argument names
STAND_IN = """
import pathlib, socket, sys
if pathlib.Path(sys.argv[2]).exists():
    sys.exit("broken")
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
while True:
    connection = listener.accept()[0]
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    connection.close()
"""
FIRST, SECOND = "netd", "quotegated"


def stand_ins(launcher: Launcher, spec: LabSpec) -> dict[str, Programs]:
    def one(name: str, socket: Path, namespace: str, uid: int) -> Programs:
        argv = ("-c", STAND_IN, str(socket), str(broken(spec.lab, name)))
        return ((launcher.program(name, argv, namespace, uid), socket),)

    lab, paths = spec.lab, LabPaths(spec.lab)
    namespace = lab.gateway_namespace
    return {
        GATEWAY: one(FIRST, paths.socket("netd", "netd.sock"), namespace, NETD_UID)
        + one(SECOND, lab.api_socket, namespace, GATEWAY_UID),
        **{
            peer.peer: one(
                f"agent-{peer.peer}", lab.agent_socket(peer.peer), lab.peer_namespace(peer.peer), AGENT_UID
            )
            for peer in spec.peers
        },
    }


def broken(lab: Lab, program: str) -> Path:
    """Where a file makes a stand-in end at once."""
    return lab.run_dir / f"broken-{program}"


@dataclass
class Watched:
    """A running monitor and ways to look at it from outside."""

    monitor: Monitor
    server: MonitorServer

    @property
    def lab(self) -> Lab:
        return self.monitor.lab

    async def ask(self, op: str, **params: object) -> dict[str, object]:
        return await asyncio.to_thread(ask, self.lab, op, **params)

    def pids(self, machine: str) -> dict[str, int]:
        status = self.monitor.status()
        found = status["gateway"] if machine == GATEWAY else status["peers"][machine]  # type: ignore[index]
        return dict(found["pids"])  # type: ignore[index]

    def tcti(self, machine: str) -> str:
        return f"swtpm:path={self.lab.tpm_socket(machine)}"

    def pcr(self, machine: str, index: int) -> bytes:
        with Tpm(self.tcti(machine)) as tpm:
            return tpm.read_pcrs(PcrSelection.of([index]))[index]

    def extend(self, machine: str) -> None:
        with Tpm(self.tcti(machine)) as tpm:
            tpm.extend(10, os.urandom(32))

    def counters(self, machine: str) -> Counters:
        with Tpm(self.tcti(machine)) as tpm:
            return tpm.counters()

    async def until(self, condition: Callable[[], bool], within_s: float = 15.0) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.02)


def inhabitants(lab: Lab) -> list[int]:
    """Every process in the lab's namespaces."""
    return [
        int(pid)
        for name in namespaces_of(lab)
        for pid in run(["ip", "netns", "pids", name], check=False).split()
    ]


@asynccontextmanager
async def watched_monitor(*, supervise: bool = True) -> AsyncIterator[Watched]:
    """Start a gateway and two guests; take everything down afterwards."""
    spec = default_spec(Lab(f"tm{os.getpid()}"), 2)
    tear_down(spec.lab)
    try:
        make_directories(spec)
        make_administrator_key(spec.lab)
        copy_code(PROJECT, spec.lab.run_dir / "code")
        build(spec)
        python = (str(Path(sys.executable).resolve()), "-B")
        monitor = Monitor(spec, spec.lab.run_dir / "code", python, stand_ins)
        server = MonitorServer(monitor)
        tasks = [asyncio.create_task(server.serve(spec.lab.monitor_socket))]
        try:
            await monitor.start()
            if supervise:
                tasks.append(asyncio.create_task(monitor.supervise()))
            yield Watched(monitor, server)
            assert not any(task.done() for task in tasks)
        finally:
            await monitor.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        tear_down(spec.lab)


def build(spec: LabSpec) -> None:
    """Make the namespaces alone: these programs need no network."""
    names = [spec.lab.gateway_namespace, *(spec.lab.peer_namespace(peer.peer) for peer in spec.peers)]
    for name in names:
        run(["ip", "netns", "add", name])
