"""Be the host's root who starts a lab's machines himself: with our own start, but with what he likes."""

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from authn.signing import key_id
from tests.vm.conftest import VmLab
from vmhost.errors import HostError
from vmhost.lab.gateway_vm import make_gateway
from vmhost.lab.provisioning import load_administrator_key
from vmhost.lab.vms import VmPaths, golden_dir, make_guests
from vmhost.monitor.client import ask
from vmhost.monitor.updates import GatewayUpdates
from vmhost.names import GATEWAY
from vmhost.process import Rights
from vmhost.vm import host
from vmhost.vm.domain import Domain
from vmhost.vm.guest import VmGuest
from vmhost.vm.host import Host
from vmhost.vm.vtpm import VtpmSpec

START_WITHIN_S = 120.0


@dataclasses.dataclass
class Hand:
    """Somebody with the host in hand. What he starts ends with him."""

    lab: VmLab
    loop: asyncio.AbstractEventLoop
    undo: contextlib.ExitStack

    @property
    def key(self) -> bytes:
        return load_administrator_key(self.lab.lab).public_key().public_bytes_raw()

    def own(self, name: str) -> VmGuest:
        """A machine of the lab as the monitor has it, which must have it off."""
        if name == GATEWAY:
            gateway = make_gateway(self.lab.spec, self.key, self.loop)
            gateway.services, gateway.slots = {}, GatewayUpdates.of(self.lab.spec).keeper
            return gateway
        return make_guests(self.lab.spec, self.key, self.loop)[name]

    def in_the_place_of(self, place: str, whose: str) -> VmGuest:
        """One machine, its settings, its TPM's copy and its MAC, at another one's tap."""
        spec, there = self.own(whose).domain.spec, self.own(place).domain.spec
        spec = dataclasses.replace(
            spec, tap=there.tap, uid=there.uid, gid=there.gid, run_dir=there.run_dir, tpm_socket=there.tpm_socket,
            firmware_code=there.firmware_code, firmware_vars=there.firmware_vars,
        )  # fmt: skip
        state, key = VmPaths(self.lab.lab, place).directory / "tpm.copy", VmPaths(self.lab.lab, whose).tpm_key
        tpm_uid = VmPaths(self.lab.lab, place).tpm_state.stat().st_uid
        copy_tpm(VmPaths(self.lab.lab, whose).tpm_state, state, tpm_uid)
        log = self.lab.lab.run_dir / "log" / "swtpm-copy.log"
        rights = Rights(tpm_uid, tpm_uid)
        tpm = VtpmSpec(place, spec.namespace, state, spec.tpm_socket, log, rights, spec.uid)
        keys = {key_id(self.key): self.key}
        edges = Host(golden_dir(self.lab.lab), keys, tpm, key.read_bytes, time.time)
        return VmGuest(Domain(spec, edges), tpm, key.read_bytes, self.loop)

    def start(self, guest: VmGuest, *options: str) -> None:
        """Start a machine with more options for QEMU."""
        plain = host.qemu_argv
        with mock.patch.object(host, "qemu_argv", lambda *given: (*plain(*given), *options)):
            guest.boot()
        self.undo.callback(guest.power_off)


@contextlib.contextmanager
def hand(lab: VmLab) -> Iterator[Hand]:
    """Have the host in hand for a while."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with contextlib.ExitStack() as undo:
            yield Hand(lab, loop, undo)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def taken_from_the_monitor(lab: VmLab, *names: str) -> Iterator[None]:
    """Have machines off, the monitor not bringing them back; afterwards it may, and guests are started again."""
    ask(lab.lab, "pause", on=True)
    try:
        for name in names:
            if name == GATEWAY:
                os.kill(lab.status_of(name)["pids"]["qemu"], signal.SIGKILL)
            else:
                ask(lab.lab, "stop_machine", name=name)
        lab.until(lambda: all(not lab.status_of(name)["pids"] for name in names), 20)
        yield
    finally:
        ask(lab.lab, "pause", on=False)
        for name in names:
            if name != GATEWAY:
                with contextlib.suppress(HostError):  # it runs already: what failed before is to be told
                    ask(lab.lab, "start_machine", START_WITHIN_S, name=name)


def copy_tpm(state: Path, target: Path, uid: int) -> None:
    """Copy a TPM's state, for another uid."""
    shutil.copytree(state, target)
    for path in (target, *target.rglob("*")):
        os.chown(path, uid, uid)
