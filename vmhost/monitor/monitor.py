"""The monitor of a lab: start all machines, keep the gateway alive, restart who is to be restarted."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from authn.errors import AuthnError
from vmhost.errors import HostError
from vmhost.guest import Guest
from vmhost.lab.gateway_vm import make_gateway, prepare_gateway
from vmhost.lab.kept import is_kept, keep, note_off, noted_off
from vmhost.lab.provisioning import (
    GATEWAY_PROFILE,
    PEER_PROFILE,
    LabPaths,
    load_administrator_key,
    provision,
)
from vmhost.lab.vms import make_guests, prepare_vms
from vmhost.log import keep_small, say
from vmhost.machine import Machine
from vmhost.monitor.budget import Budget
from vmhost.monitor.gateway_unit import MISSES, End, GatewayUnit, Order, Probe, Restart
from vmhost.monitor.guest_words import GuestWords
from vmhost.monitor.health import is_healthy
from vmhost.monitor.newcomer import Newcomer, Step
from vmhost.monitor.portrait import accelerator_json, describe, evidence
from vmhost.monitor.programs import (
    AGENT_ARGV,
    GATEWAY_ARGV,
    Launcher,
    ProgramsOf,
    inspector_name,
    lab_programs,
)
from vmhost.monitor.updates import GatewayUpdates
from vmhost.names import AGENT_UID, GATEWAY, TPM_UID, TPMD_UID
from vmhost.spec import LabSpec
from vmhost.swtpm import VirtualTpm
from vmhost.vm.gateway import GatewayVm
from vmhost.vm.gateway_api import GatewayApi
from vmhost.vm.guest import VmGuest, threads_for

CHECK_EVERY_S = 0.1
REVIVE_EVERY_S = 0.5
VM_MISSES = 20  # a VM brings its processes back by itself, which takes an emulated processor seconds
GATEWAY_RESTARTS, RESTART_WINDOW_S = 3, 900.0
Failure = (HostError, AuthnError, OSError, SubprocessError)


class Monitor:
    """All machines of one lab. One lock per machine; blocking work runs in threads."""

    def __init__(
        self,
        spec: LabSpec,
        root: Path,
        python: tuple[str, ...] = (),
        programs: ProgramsOf = lab_programs,
    ) -> None:
        self.spec, self.lab, self._programs = spec, spec.lab, programs
        self._launcher = Launcher(spec.lab, root, python or (str(root / ".venv/bin/python"), "-B"))
        paths = LabPaths(spec.lab)
        self.machines: dict[str, Machine] = {}  # those that are namespaces
        self.peers: dict[str, Guest] = {}
        self.newcomers: dict[str, Newcomer] = {}  # guests with a line to us
        self.updates = GatewayUpdates.of(spec)
        self.gateway = self._gateway(paths)
        if spec.images is None:
            for number, peer in enumerate(spec.peers, 1):
                name, uid, log = peer.peer, TPM_UID + number, paths.peer_log(peer.peer)
                self.machines[name] = self._machine(
                    name, self.lab.peer_namespace(name), uid, AGENT_UID, AGENT_ARGV, log
                )
                self.peers[name] = self.machines[name]
        else:
            key = load_administrator_key(self.lab).public_key().public_bytes_raw()
            words = GuestWords(self.lab, self._alive, self.gateway_refused, time.monotonic, time.time, say)
            for name, guest in make_guests(spec, key, asyncio.get_running_loop()).items():
                guest.heard = words.heard
                self.peers[name], self.newcomers[name] = guest, Newcomer()
        misses = VM_MISSES if spec.gateway_vm else MISSES
        self.unit = GatewayUnit(Budget(GATEWAY_RESTARTS, RESTART_WINDOW_S), misses)
        self.gateway_starts = 0
        self.last_gateway_restart = ""
        self._kept_off = noted_off(self.lab) if is_kept(self.lab) else {}  # with the reason
        self._unnoted: set[str] = set()  # that could not be written down
        self._noting = asyncio.Lock()
        self._locks = {name: asyncio.Lock() for name in (GATEWAY, *self.peers)}
        self._stopping = False

    def _gateway(self, paths: LabPaths) -> Machine | GatewayVm:
        if self.spec.gateway_vm:
            key = load_administrator_key(self.lab).public_key().public_bytes_raw()
            gateway = make_gateway(self.spec, key, asyncio.get_running_loop())
            gateway.slots = self.updates.keeper
            return gateway
        namespace, log = self.lab.gateway_namespace, paths.gateway_log
        machine = self._machine(GATEWAY, namespace, TPM_UID, TPMD_UID, GATEWAY_ARGV, log)
        self.machines[GATEWAY] = machine
        return machine

    def _machine(
        self, name: str, namespace: str, uid: int, gid: int, argv: tuple[str, ...], log: Path
    ) -> Machine:
        launcher = self._launcher
        tpm = VirtualTpm.of(self.lab, name, namespace, uid, gid, launcher.python, launcher.environment)
        return Machine(name, tpm, launcher.root, f"lab {self.lab.name}", argv, log)

    async def start(self) -> None:
        """Prepare all machines, unless that was kept; boot the gateway, then the peers. Raises HostError or AuthnError."""
        machines: dict[str, Guest] = {GATEWAY: self.gateway, **self.peers}
        asyncio.get_running_loop().set_default_executor(threads_for(len(machines)))
        if not is_kept(self.lab):
            await self._prepare(machines)
        self._describe_programs()
        if self.spec.gateway_vm:  # it takes its time: guests wait for it as well while they boot
            due = [one for name, one in machines.items() if name not in self._kept_off]
            await asyncio.gather(*(self._boot(one) for one in due))
        else:
            await self._boot(self.gateway)
            await asyncio.gather(*(self._boot(peer) for peer in self.peers.values()))
        self.gateway_starts += 1
        self.unit.started(time.monotonic())

    async def _prepare(self, machines: dict[str, Guest]) -> None:
        """Make what virtual machines start from, power all TPMs on, provision."""
        await asyncio.to_thread(prepare_vms, self.spec, load_administrator_key(self.lab))
        await asyncio.to_thread(prepare_gateway, self.spec)
        found = await asyncio.gather(*(asyncio.to_thread(one.identify) for one in machines.values()))
        commands = {GATEWAY_PROFILE: GATEWAY_ARGV, PEER_PROFILE: AGENT_ARGV}
        provision(self.spec, self._launcher.root, dict(zip(machines, found, strict=True)), commands)
        if self.spec.gateway_vm:
            await asyncio.to_thread(keep, self.spec)

    def _describe_programs(self) -> None:
        for name, programs in self._programs(self._launcher, self.spec).items():
            if name in self.machines:
                self.machines[name].programs = programs

    async def _boot(self, machine: Guest) -> None:
        async with self._alone(machine.name):
            await self._boot_now(machine)

    async def _boot_now(self, machine: Guest, *, off_first: bool = False) -> None:
        try:
            if off_first:
                await asyncio.to_thread(machine.power_off)
            await asyncio.to_thread(machine.boot)
        finally:  # one that did not start is missed as one that hangs
            if newcomer := self.newcomers.get(machine.name):
                newcomer.started(time.monotonic())

    async def _off_now(self, machine: Guest) -> None:
        if newcomer := self.newcomers.get(machine.name):
            newcomer.off()
        await asyncio.to_thread(machine.power_off)

    def _alive(self, guest: str, known: bool) -> None:
        self.newcomers[guest].heard(time.monotonic(), known=known)

    @asynccontextmanager
    async def _alone(self, name: str, *, by_operator: bool = False) -> AsyncIterator[None]:
        """Have a machine to oneself. Nothing is started any more once everything is being ended.

        What was switched off for good is for operators alone.
        """
        async with self._locks[name]:
            if self._stopping:
                raise HostError("stopping", "the monitor is ending everything")
            if not by_operator:
                self._demand_not_kept_off(name)
            yield

    def _demand_not_kept_off(self, name: str) -> None:
        if name in self._kept_off:
            raise HostError(
                "kept-off",
                f"{name} is switched off ({self._kept_off[name]}); start it again: quotegate-host vm start {name}",
            )

    async def supervise(self) -> None:
        """Bring the gateway back when one of its processes dies or when it does not answer, and keep the log small.

        A guest whose agent died falls silent: the gateway notices and asks for its restart. One that no gateway has let in
        yet is missed by none: we see to it.
        """
        await asyncio.gather(self._watch(), self._keep_log_small())

    async def _keep_log_small(self) -> None:
        """Cut the log, also while the watch waits minutes for a machine that somebody else has."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            keep_small(self.lab.monitor_log)

    async def _watch(self) -> None:
        revive_at = 0.0
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            for name, newcomer in self.newcomers.items():
                if step := newcomer.tick(time.monotonic()):
                    say(f"VM {name}: nothing was heard of its agent for {newcomer.patience_s:.0f} s: {step}")
                    await self._try(self._see_to(name, step))
            if GATEWAY in self._kept_off:
                continue
            order = self.unit.tick(time.monotonic(), self.gateway.alive)
            if isinstance(order, Probe):
                order = self.unit.probed(await is_healthy(self.lab.api_socket))
            await self._try(self._carry_out(order))
            if self.gateway.has_fallen and not self.unit.paused and time.monotonic() >= revive_at:
                revive_at = time.monotonic() + REVIVE_EVERY_S
                await self._try(self._revive())

    async def _see_to(self, guest: str, step: Step) -> None:
        match step:
            case Step.RESTART:
                await self.restart_peer(guest)
            case Step.SWITCH_OFF:
                await self.stop_machine(guest, "its agent was not heard")

    async def _revive(self) -> None:
        async with self._alone(GATEWAY):
            if self.gateway.alive:
                await asyncio.to_thread(self.gateway.revive)

    async def _carry_out(self, order: Order) -> None:
        match order:
            case End():
                async with self._alone(GATEWAY):
                    if not self.gateway.alive:  # else somebody restarted it while we waited
                        await asyncio.to_thread(self.gateway.stop_programs)
            case Restart():
                await self.restart_gateway(order.reason, reset_tpm=order.reset_tpm)

    @staticmethod
    async def _try(work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Failure as error:
            say(str(error))
        except Exception as error:  # noqa: BLE001 - one machine's trouble must not end the watch over the others
            say(f"not expected, please report it: {error!r}")

    async def restart_gateway(self, reason: str, *, reset_tpm: bool, by_operator: bool = False) -> None:
        """Restart all processes of the gateway; with `reset_tpm` the machine itself."""
        self.unit.restarting()
        async with self._alone(GATEWAY, by_operator=by_operator):
            await self._keep_off(GATEWAY, None)
            self.unit.restarting()  # a restart before ours may have ended while we waited
            self.last_gateway_restart = reason
            say(f"the gateway is restarted: {reason}")
            try:
                await asyncio.to_thread(self.gateway.power_off if reset_tpm else self.gateway.stop_programs)
                await asyncio.to_thread(self.gateway.boot if reset_tpm else self.gateway.start_programs)
                self.gateway_starts += 1
            finally:
                self.unit.started(time.monotonic())

    async def check_update(self, directory: str) -> dict[str, Any]:
        """Check an update of the gateway's image; raises HostError."""
        return await asyncio.to_thread(self.updates.check, directory)

    async def apply_update(self, directory: str, tries: int, within_s: float) -> dict[str, Any]:
        """Try an update of the gateway's image; return how that ended. Raises HostError: what is in force goes on."""
        async with self._alone(GATEWAY):
            version = await asyncio.to_thread(self.updates.install, directory, tries, within_s)
        return await self._try_image(version)

    async def roll_back_update(self, tries: int, within_s: float) -> dict[str, Any]:
        """Try the image that was in force before; return how that ended. Raises HostError."""
        async with self._alone(GATEWAY):
            version = await asyncio.to_thread(self.updates.roll_back, tries, within_s)
        return await self._try_image(version)

    async def _try_image(self, version: int) -> dict[str, Any]:
        await self.restart_gateway(f"version {version} of its image is tried", reset_tpm=True)
        status = await asyncio.to_thread(self.updates.status)
        return {**status, "tried": version}

    async def commit_update(self) -> dict[str, Any]:
        """Let the TPM open the state to nothing older than what is in force; raises HostError."""
        async with self._alone(GATEWAY):
            await asyncio.to_thread(self.updates.check_commit)
            await GatewayApi(self.lab.api_socket).commit()
            await asyncio.to_thread(self.updates.keeper.commit)
        return await asyncio.to_thread(self.updates.status)

    async def replace_inspector(self) -> None:
        """Start a fresh inspector beside each one that runs; raises HostError when one does not."""
        async with self._alone(GATEWAY):
            for number in range(self.spec.inspectors):
                await asyncio.to_thread(self.gateway.replace, inspector_name(number))

    async def end_inspector(self, pid: int) -> None:
        """Kill an inspector that the gateway hears nothing of; it is started again like one that died. Raises HostError."""
        async with self._alone(GATEWAY):
            await asyncio.to_thread(self.gateway.end, pid)

    async def gateway_refused(self, peer: str, reason: str) -> None:
        """A guest says the gateway can't be trusted: restart it; raises HostError when that was too often."""
        self.machine(peer)
        self._demand_not_kept_off(GATEWAY)  # before it costs budget
        restart = self.unit.refused(peer, reason, time.monotonic())
        await self._carry_out(restart)

    async def restart_peer(self, name: str, *, by_operator: bool = False) -> None:
        """Restart a guest for real: agent and TPM stop, PCRs are zero, the reset count has grown."""
        machine = self.machine(name)
        async with self._alone(name, by_operator=by_operator):
            await self._keep_off(name, None)
            await self._boot_now(machine, off_first=True)

    async def start_machine(self, name: str) -> None:
        """Start a guest or the gateway at an operator's word; raises HostError `already-running`."""
        if self.machine_or_gateway(name).pids():
            raise HostError(
                "already-running",
                f"{name}: checked before a start: expected it to be off, got running; "
                f"or restart it: quotegate-host vm restart {name}",
            )
        if name == GATEWAY:
            await self.restart_gateway("at an operator's word", reset_tpm=True, by_operator=True)
        else:
            await self.restart_peer(name, by_operator=True)

    async def stop_machine(self, name: str, why: str = "by an operator") -> None:
        """Switch a guest or the gateway off; it stays off until an operator starts it."""
        machine = self.machine_or_gateway(name)
        async with self._alone(name, by_operator=True):
            await self._keep_off(name, why)
            await self._off_now(machine)

    async def _keep_off(self, name: str, why: str | None) -> None:
        """Have a machine stay off for a reason, or no longer (None); also for a monitor that comes after us."""
        if why == self._kept_off.get(name) and name not in self._unnoted:
            return
        off = {one: reason for one, reason in self._kept_off.items() if one != name}
        self._kept_off = off if why is None else {**off, name: why}
        self._unnoted.add(name)
        try:
            async with self._noting:  # the last one to write knows of all
                await asyncio.to_thread(note_off, self.lab, self._kept_off)
            self._unnoted.clear()
        except OSError as error:
            say(
                f"{name}: a later monitor will not know whether it stays off: {error}; free space, then say it again"
            )

    def machine_or_gateway(self, name: str) -> Guest:
        """Find a machine; raises HostError."""
        return self.gateway if name == GATEWAY else self.machine(name)

    def machine(self, name: str) -> Guest:
        """Find a guest; raises HostError."""
        if name not in self.peers:
            known = ", ".join(self.peers)
            raise HostError("unknown-peer", f"there is no machine {name!r}; known are {known}")
        return self.peers[name]

    async def stop(self) -> None:
        """End every machine; what is being restarted is ended as soon as it is up."""
        self._stopping = True
        self.unit.stop()
        await asyncio.gather(*(self._power_off(one) for one in (*self.peers.values(), self.gateway)))

    async def _power_off(self, machine: Guest) -> None:
        async with self._locks[machine.name]:
            await asyncio.to_thread(machine.power_off)

    def vms(self) -> dict[str, object]:
        """Describe the virtual machines."""
        machines = (self.gateway, *self.peers.values())
        found = [
            describe(one, self.spec.machine(one.name), self._kept_off.get(one.name, ""))
            for one in machines
            if isinstance(one, VmGuest)
        ]
        return {"vms": found, "accelerator": accelerator_json() if found else None}

    async def vm_evidence(self, name: str) -> dict[str, object]:
        """Say what was measured before a VM's last start; raises HostError."""
        machine = self.machine_or_gateway(name)
        if not isinstance(machine, VmGuest):
            raise HostError("not-a-vm", f"{name} is a namespace; virtual machines: quotegate lab up --vm")
        return await asyncio.to_thread(evidence, machine.domain, self.spec.images)

    def status(self) -> dict[str, object]:
        """Describe the machines and the pids of their programs."""
        return {
            "gateway": {
                "pids": self.gateway.pids(),
                "starts": self.gateway_starts,
                "last_restart": self.last_gateway_restart,
            },
            "peers": {
                name: {"pids": machine.pids(), "kept_off": self._kept_off.get(name, "")}
                for name, machine in self.peers.items()
            },
        }
