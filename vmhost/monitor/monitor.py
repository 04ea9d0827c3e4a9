"""The monitor of a lab: start all machines, keep the gateway alive, restart who is to be restarted."""

import asyncio
import json
import time
from collections.abc import Coroutine
from ipaddress import IPv4Network
from pathlib import Path

from authn.portmap import PortEntry
from vmhost.errors import HostError
from vmhost.lab.provisioning import GATEWAY_PROFILE, PEER_PROFILE, LabPaths, provision
from vmhost.machine import Machine
from vmhost.monitor.budget import Budget
from vmhost.names import AGENT_UID, GATEWAY, GATEWAY_UID, NETD_UID, TPMD_UID, Lab
from vmhost.process import Program, Rights
from vmhost.spec import LabSpec
from vmhost.swtpm import VirtualTpm

BACKOFF_S = 1.0
CHECK_EVERY_S = 0.1
HEALTH_EVERY_S = 1.0
HEALTH_MISSES = 3
GATEWAY_RESTARTS, RESTART_WINDOW_S = 3, 900.0


class Monitor:
    """All machines of one lab. One lock per machine; blocking work runs in threads."""

    def __init__(self, spec: LabSpec, root: Path) -> None:
        self.spec, self.lab, self.root = spec, spec.lab, root
        self.paths = LabPaths(spec.lab)
        self.python = (str(root / ".venv/bin/python"), "-B")
        self.environment = {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        self.gateway = self._machine(
            GATEWAY, self.lab.gateway_namespace, TPMD_UID, self._gateway_argv(), self.paths.gateway_log
        )
        self.peers = {
            peer.peer: self._machine(
                peer.peer,
                self.lab.peer_namespace(peer.peer),
                AGENT_UID,
                self._agent_argv(),
                self.paths.peer_log(peer.peer),
            )
            for peer in spec.peers
        }
        self.locks = {name: asyncio.Lock() for name in (GATEWAY, *self.peers)}
        self.gateway_budget = Budget(GATEWAY_RESTARTS, RESTART_WINDOW_S)
        self.supervising = False
        self.gateway_starts = 0
        self.last_gateway_restart = ""
        self._misses = 0

    def _machine(self, name: str, namespace: str, gid: int, argv: tuple[str, ...], log: Path) -> Machine:
        tpm = VirtualTpm.of(self.lab, name, namespace, gid, self.python, self.environment)
        return Machine(name, tpm, self.root, f"lab {self.lab.name}", argv, log)

    @staticmethod
    def _gateway_argv() -> tuple[str, ...]:
        """What is measured as the gateway's command: the programs, without this lab's paths."""
        return ("filters.netd.main", "gateway.tpmd.main", "gateway.daemon.main")

    @staticmethod
    def _agent_argv() -> tuple[str, ...]:
        return ("gateway.agent.main", "run")

    async def start(self) -> None:
        """Power all TPMs on, provision, boot the gateway, then the peers; raises HostError."""
        machines = {GATEWAY: self.gateway, **self.peers}
        await asyncio.gather(*(asyncio.to_thread(one.tpm.start) for one in machines.values()))
        found = await asyncio.gather(*(asyncio.to_thread(one.identify) for one in machines.values()))
        commands = {GATEWAY_PROFILE: self._gateway_argv(), PEER_PROFILE: self._agent_argv()}
        provision(self.spec, self.root, dict(zip(machines, found, strict=True)), commands)
        self._describe_programs()
        await asyncio.to_thread(self.gateway.boot)
        self.gateway_starts += 1
        await asyncio.gather(*(asyncio.to_thread(peer.boot) for peer in self.peers.values()))
        self.supervising = True

    def _describe_programs(self) -> None:
        netd, tpmd = self.paths.socket("netd", "netd.sock"), self.paths.socket("tpmd", "tpmd.sock")
        setup = ("--setup", str(self.paths.gateway_setup))
        netd_arguments = ("--socket", str(netd), "--client-uid", str(GATEWAY_UID), "--interface", "eth0")
        namespace = self.lab.gateway_namespace
        self.gateway.programs = (
            (
                self._program(
                    "netd", "filters.netd.main", netd_arguments, namespace, NETD_UID, ("net_admin",)
                ),
                netd,
            ),
            (self._program("tpmd", "gateway.tpmd.main", setup, namespace, TPMD_UID), tpmd),
            (
                self._program("quotegated", "gateway.daemon.main", setup, namespace, GATEWAY_UID),
                self.lab.api_socket,
            ),
        )
        for name, machine in self.peers.items():
            arguments = ("run", "--setup", str(self.paths.peer_setup(name)))
            # the agent watches the kernel's announcements of closed connections: that takes CAP_NET_ADMIN
            agent = self._program(
                f"agent-{name}",
                "gateway.agent.main",
                arguments,
                self.lab.peer_namespace(name),
                AGENT_UID,
                ("net_admin",),
            )
            machine.programs = ((agent, self.lab.agent_socket(name)),)

    def _program(
        self,
        name: str,
        module: str,
        arguments: tuple[str, ...],
        namespace: str,
        uid: int,
        capabilities: tuple[str, ...] = (),
    ) -> Program:
        argv = (*self.python, "-m", module, *arguments)
        log = self.lab.run_dir / "log" / f"{name}.log"
        return Program(name, argv, namespace, Rights(uid, uid, capabilities), log, self.environment)

    async def supervise(self) -> None:
        """Bring the gateway back when one of its processes dies or hangs; agents too."""
        next_health = time.monotonic() + HEALTH_EVERY_S
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            if not self.supervising:
                continue
            if not self.locks[GATEWAY].locked() and not self.gateway.alive:
                await asyncio.sleep(BACKOFF_S)
                await self._try(self.restart_gateway("a process of the gateway died", reset_tpm=False))
            elif time.monotonic() > next_health:
                next_health = time.monotonic() + HEALTH_EVERY_S
                await self._check_health()

    async def _check_health(self) -> None:
        healthy = await self._healthy()
        self._misses = 0 if healthy else self._misses + 1
        if self._misses >= HEALTH_MISSES and self.supervising:
            self._misses = 0
            await self._try(self.restart_gateway("the gateway did not answer", reset_tpm=False))

    async def _healthy(self) -> bool:
        """Ask the control API whether it is well: plain HTTP over the unix socket."""
        try:
            async with asyncio.timeout(HEALTH_EVERY_S):
                reader, writer = await asyncio.open_unix_connection(self.lab.api_socket)
                writer.write(b"GET /v1/health HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
                line = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in line

    @staticmethod
    async def _try(work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except HostError as error:
            print(f"monitor: {error.message}", flush=True)  # noqa: T201 - its log

    async def restart_gateway(self, reason: str, *, reset_tpm: bool) -> None:
        """Restart all processes of the gateway; with `reset_tpm` the machine itself."""
        async with self.locks[GATEWAY]:
            self.last_gateway_restart = reason
            await asyncio.to_thread(self.gateway.power_off if reset_tpm else self.gateway.stop_programs)
            await asyncio.to_thread(self.gateway.boot if reset_tpm else self.gateway.start_programs)
            self.gateway_starts += 1

    async def gateway_refused(self, peer: str, reason: str) -> bool:
        """A peer says the gateway can't be trusted: restart it within the budget. False: budget used up."""
        if self.locks[GATEWAY].locked():
            return True
        if not self.gateway_budget.take(time.monotonic()):
            return False
        await self.restart_gateway(f"{peer} refused it: {reason}", reset_tpm=True)
        return True

    async def restart_peer(self, name: str) -> None:
        """Restart a guest for real: agent and TPM stop, PCRs are zero, the reset count has grown."""
        machine = self.peer(name)
        async with self.locks[name]:
            await asyncio.to_thread(machine.power_off)
            await asyncio.to_thread(machine.boot)

    async def stop_peer(self, name: str) -> None:
        """Stop a guest and leave it stopped."""
        machine = self.peer(name)
        async with self.locks[name]:
            await asyncio.to_thread(machine.power_off)

    def peer(self, name: str) -> Machine:
        """Find a guest; raises HostError."""
        if name not in self.peers:
            raise HostError(
                "unknown-peer", f"there is no machine {name!r}; known are {', '.join(self.peers)}"
            )
        return self.peers[name]

    async def stop(self) -> None:
        """End every machine."""
        self.supervising = False
        await asyncio.gather(
            *(asyncio.to_thread(one.power_off) for one in (*self.peers.values(), self.gateway))
        )

    def status(self) -> dict[str, object]:
        """Describe the machines and the pids of their programs."""

        def pids(machine: Machine) -> dict[str, int]:
            return {one.program.name: one.process.pid for one in machine.running if one.alive}

        return {
            "gateway": {
                "pids": pids(self.gateway),
                "starts": self.gateway_starts,
                "last_restart": self.last_gateway_restart,
            },
            "peers": {name: {"pids": pids(machine)} for name, machine in self.peers.items()},
        }


def load_spec(path: Path) -> LabSpec:
    """Read the spec that `lab up` wrote."""
    data = json.loads(path.read_text())
    return LabSpec(
        Lab(data["lab"]),
        IPv4Network(data["network"]),
        tuple(PortEntry.from_json(one) for one in data["peers"]),
        PortEntry.from_json(data["gateway"]),
        data["policy_text"],
        data["control_port"],
        data["beacon_interval_ms"],
        data["preapproved"],
    )
