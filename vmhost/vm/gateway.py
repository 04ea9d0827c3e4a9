"""The gateway as a virtual machine: started like every VM from the slot that is due, reached over its line to the host.

The line is `hostlink`'s, the slots are `vmhost.update`'s. A candidate has to pass its self-test before it counts.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from hostlink.endpoint import Endpoint, Service
from hostlink.errors import LinkError
from vmhost.errors import HostError
from vmhost.log import shown
from vmhost.update.keeper import SlotKeeper, start_due
from vmhost.update.slots import Slot, Slots
from vmhost.vm.child import LAST_WORDS, last_words
from vmhost.vm.domain import State
from vmhost.vm.gateway_api import Complaint, GatewayApi
from vmhost.vm.guest import VmGuest
from vmhost.vm.recovery import run_in_guest
from vmhost.vm.spec import Disk

API = "api"
ANSWER_WITHIN_S, LOOK_EVERY_S = 240.0, 0.5
MOST_FAILED, TEST_EVERY_S = 3, 2.0
REPLACE_WITHIN_S = 60.0
COMPLAINT = "quotegate gateway: "
_OWNER = 0o600


class GatewayVm(VmGuest):
    """One VM with a line to the host. `services` is what it may open here; set it before the first `boot`."""

    api_socket: Path
    answers: Callable[[Path], Awaitable[bool]]
    services: Mapping[str, Service]
    slots: SlotKeeper
    refresh: Callable[[Slot], None]  # brings a slot's settings disk up to date
    disks_of: Callable[[Slot], tuple[Disk, ...]]
    _pending: str = ""  # what a candidate on trial still lacks

    def boot(self) -> None:
        """Start it; return once its control API answers. A failure leaves it off; raises HostError.

        A candidate that does not come up, or fails its self-test, is followed by the image before it.
        """
        start_due(self.slots, self._start, self.power_off)
        with contextlib.suppress(HostError):  # the next start tells it again
            self.slots.tell(lambda outcome: self._wait(GatewayApi(self.api_socket).tell(outcome)))

    def _start(self, slot: Slot, slots: Slots) -> None:
        self.refresh(slot)
        self.domain.spec = replace(self.domain.spec, disks=self.disks_of(slot))
        super().boot()
        self._wait(self._connect(slots[slot].within_s if slot is slots.candidate else None))

    start_programs, stop_programs = (
        boot,
        VmGuest.power_off,
    )  # its processes are its own systemd's: the host has the machine

    @property
    def alive(self) -> bool:
        """Tell whether the VM runs and its line is whole."""
        return self.domain.state is State.RUNNING and self._line is not None and not self._line.done()

    @property
    def has_fallen(self) -> bool:
        """Tell whether something has to be seen to from here: no program, but a blessing that is still to be written."""
        return self.slots.has_unsaved

    def revive(self) -> None:
        """See to it: quietly, as it was told when it failed first."""
        with contextlib.suppress(HostError):
            self.slots.save_again()

    def end(self, _pid: int) -> None:
        """End a program that hangs: its own systemd does (`WatchdogSec=`)."""

    def replace(self, name: str) -> None:
        """Start a fresh inspector beside the one at work; raises HostError."""
        command = ("/usr/lib/quotegate-appliance/replace", name)
        done = run_in_guest(self.domain.spec.recovery_socket, command, REPLACE_WITHIN_S)
        if done.status:
            said = shown(done.output[-LAST_WORDS:].decode(errors="replace").strip())
            raise HostError("not-running", f"{self.name}: replacing {name}: {said}")

    async def _connect(self, trial_s: float | None) -> None:
        """Return once it answers; when it is on trial, once it has passed its self-test too. Raises HostError."""
        try:
            reader, writer = await asyncio.open_unix_connection(self.domain.spec.link_socket)
        except OSError as error:
            raise self._failure("ended while it started") from error
        endpoint = Endpoint(reader, writer, 0, self.services)
        self._line = asyncio.create_task(self._carry(endpoint), name="line to the gateway")
        self._pending = ""
        within_s = trial_s or ANSWER_WITHIN_S
        try:
            async with asyncio.timeout(within_s):
                while not await self.answers(self.api_socket):
                    self._demand_alive()
                    await asyncio.sleep(LOOK_EVERY_S)
                if trial_s:
                    await self._test()
        except TimeoutError as error:
            raise self._failure(f"was not up within {within_s:.0f} s{self._pending}") from error

    async def _test(self) -> None:
        """Return once the self-test passed: parts that still start are waited for. Raises HostError."""
        failed = 0
        while complaint := await self._complaint():
            self._demand_alive()
            self._pending = f" ({complaint.what})" if complaint.pending else ""
            failed = 0 if complaint.pending else failed + 1
            if failed == MOST_FAILED:
                raise HostError(
                    "self-test-failed", f"the gateway's VM is up, and its self-test failed: {complaint.what}"
                )
            await asyncio.sleep(TEST_EVERY_S)

    def _demand_alive(self) -> None:
        if not self.alive:
            raise self._failure("ended while it started")

    async def _complaint(self) -> Complaint | None:
        try:
            return await GatewayApi(self.api_socket).self_test()
        except HostError as error:
            return Complaint(error.message, pending=True)

    def _failure(self, what: str) -> HostError:
        log = self.domain.spec.console_log
        return HostError(
            "gateway-failed",
            f"the gateway's VM {what}: expected its control API to answer; its console last said: {_complaint(log)}; "
            f"see {log}",
        )

    async def _carry(self, endpoint: Endpoint) -> None:
        serving = asyncio.create_task(endpoint.serve(self.api_socket, API, _OWNER, frozenset({0})))
        try:
            with contextlib.suppress(LinkError):  # the VM is over, or is being started anew: `alive` says so
                await endpoint.run()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            self.api_socket.unlink(missing_ok=True)


def _complaint(log: Path) -> str:
    """Return what the machine itself said of its end, else the end of its console."""
    own = [line for line in log.read_text(errors="replace").splitlines() if COMPLAINT in line]
    return shown(own[-1].strip())[:600] if own else last_words(log)
