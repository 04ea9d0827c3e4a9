"""A lab of virtual machines whose monitor lives in this process: the bench starts, stops and exchanges what it likes."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.cli.client import ApiClient, api_socket
from gateway.errors import GatewayError
from vmhost.commands import in_namespace, run
from vmhost.lab.defaults import vm_spec
from vmhost.lab.provisioning import make_administrator_key, make_directories
from vmhost.lab.setup import PROJECT, last_lines
from vmhost.lab.teardown import OWNER_PID, record_process, tear_down
from vmhost.monitor.monitor import Monitor
from vmhost.monitor.server import MonitorServer
from vmhost.names import GATEWAY, Lab
from vmhost.topology import build_topology
from vmhost.vm.domain import Domain
from vmhost.vm.gateway import GatewayVm
from vmhost.vm.recovery import run_in_guest

IMAGES, PLAIN = PROJECT / "build" / "image", PROJECT / "build" / "bench-vm"
LOOK_S, WITHIN_S = 0.02, 150.0
PING = '\n[[rule]]\nid = "ping"\nfrom = "web"\nto = "db"\nservice = "icmp/echo"\naction = "allow"\nopen = "on-demand"\n'


class TimedMonitor(Monitor):
    """A monitor that writes down when it last restarted a guest."""

    began = off = 0.0

    async def restart_peer(self, name: str, *, by_operator: bool = False) -> None:
        """Restart a guest; say when its end and its start began."""
        del by_operator  # nobody keeps a machine off here
        machine = self.machine(name)
        async with self._alone(name):
            self.began = time.monotonic()
            await asyncio.to_thread(machine.power_off)
            self.off = time.monotonic()
            await asyncio.to_thread(machine.boot)


@dataclass
class VmBed:
    """The gateway, web and db, running."""

    monitor: TimedMonitor
    api: ApiClient
    disks: dict[str, bytes] = field(default_factory=dict)

    @property
    def gateway(self) -> GatewayVm:
        """The gateway's machine."""
        assert isinstance(self.monitor.gateway, GatewayVm)
        return self.monitor.gateway

    def domain(self, name: str) -> Domain:
        """The virtual machine of this name."""
        guest: Any = self.monitor.peers.get(name, self.monitor.gateway)
        found: Domain = guest.domain
        return found

    def insert(self, name: str, disk: bytes | None = None) -> None:
        """Give a machine another boot disk for its next start; None: its own."""
        path = self.domain(name).spec.disks[0].path
        own = self.disks.setdefault(name, path.read_bytes())
        path.write_bytes(own if disk is None else disk)

    def console(self, name: str) -> str:
        """What a machine wrote since its start."""
        return self.domain(name).spec.console_log.read_text(errors="replace")

    async def says(self, name: str, text: str) -> float:
        """Wait until a machine's console says this; return when."""
        return await self.until(lambda: text in self.console(name))

    async def shell(self, name: str) -> float:
        """Wait until the shell on a machine's second serial port answers; return when."""
        port = self.domain(name).spec.recovery_socket
        await asyncio.to_thread(run_in_guest, port, ("true",), WITHIN_S)
        return time.monotonic()

    async def until(self, condition: Callable[[], object], every_s: float = LOOK_S) -> float:
        """Wait until something is so; return when it was seen."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            try:
                if await asyncio.to_thread(condition):
                    return time.monotonic()
            except (GatewayError, OSError):
                pass
            await asyncio.sleep(every_s)
        said = last_lines(self.monitor.lab)  # they go with the lab
        raise TimeoutError(f"what the bench waits for did not come about\n{said}")

    def inside(self, name: str, script: str) -> str:
        """Run a script as a machine's root."""
        done = run_in_guest(self.domain(name).spec.recovery_socket, ("sh", "-c", script), WITHIN_S)
        assert done.status == 0, done.output
        return done.output.decode()

    def states(self) -> dict[str, str]:
        """How the peers stand, as the gateway says."""
        return {one["name"]: one["state"] for one in self.api.get("/v1/peers")["peers"]}

    def first_trusted(self) -> float:
        """Look up when, since its last start, the gateway first trusted a peer: the record has it, the API answers later."""
        events: list[dict[str, Any]] = []
        last = 0
        while batch := self.api.get(f"/v1/events?after={last}")["events"]:
            events += batch
            last = batch[-1]["metadata"]["sequence"]
        codes = [one["metadata"]["event_code"] for one in events]
        since = events[len(codes) - codes[::-1].index("gateway-started") :]
        at = float(next(one["time"] for one in since if one["unmapped"].get("after") == "trusted")) / 1000
        now = float(self.inside(GATEWAY, "python3.11 -c 'import time; print(time.time())'"))
        return time.monotonic() - (now - at)

    async def all_trusted(self) -> None:
        """Wait until every peer is trusted."""
        await self.until(lambda: set(self.states().values()) == {"trusted"}, 0.1)

    async def echo_reply(self, name: str) -> float:
        """Wait for an answer to a machine's ping on its port; return when."""
        capture = ["tcpdump", "-n", "-i", name, "-c", "1", "icmp[icmptype] == icmp-echoreply"]
        argv = in_namespace(self.monitor.lab.host_namespace, capture)
        null = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*argv, stdout=null, stderr=null)
        try:
            async with asyncio.timeout(WITHIN_S):
                await process.wait()
            return time.monotonic()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def vm_bed() -> AsyncIterator[VmBed]:
    """Bring gateway, web and db up, all trusted; nothing is left afterwards."""
    lab = Lab(f"benchvm{os.getpid() % 10000}")
    spec = vm_spec(lab, IMAGES)
    text = spec.policy_text.replace("max_restarts = 3", "max_restarts = 1000") + PING
    spec = replace(spec, policy_text=text)
    tear_down(lab)
    try:
        make_directories(spec)
        record_process(
            lab.run_dir / OWNER_PID, os.getpid()
        )  # whoever tears a lab down next clears ours, should we be killed
        make_administrator_key(lab)
        build_topology(spec)
        monitor = TimedMonitor(spec, PROJECT)
        bed = VmBed(monitor, ApiClient(api_socket(lab.name)))
        bed.gateway.services = {"monitor": MonitorServer(monitor).for_gateway}
        try:
            await monitor.start()
            await asyncio.to_thread(
                run, [sys.executable, "-m", "gateway.cli.main", "authority", "grant", "--lab", lab.name]
            )
            await bed.all_trusted()
            yield bed
        finally:
            await monitor.stop()
    finally:
        tear_down(lab)


def image_sizes() -> dict[str, float]:
    """Sizes of the built images, in MB."""
    names = ("gateway.root", "gateway.efi", "guest.efi")
    return {name: (IMAGES / name).stat().st_size / 1e6 for name in names}
