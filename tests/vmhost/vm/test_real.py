"""Real QEMU, swtpm and OVMF, under TCG: starts, ends, and leaves nothing behind."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from authn.portmap import PortEntry
from tests.vmhost.vm.real import OVMF, TAP, TPM_UID, UID, Place, clean_place, memfds, memfds_of
from vmhost.commands import run
from vmhost.errors import HostError
from vmhost.image.esp import make_esp
from vmhost.monitor.portrait import describe, evidence
from vmhost.vm.domain import Domain, GuestEnd, State
from vmhost.vm.guest import VmGuest
from vmhost.vm.spec import Disk
from vmhost.vm.vtpm import VtpmSpec

pytestmark = [pytest.mark.netns, pytest.mark.tpm]
FIRMWARE_WITHIN_S = 40.0
GOLDEN = (OVMF / "OVMF_CODE.fd").read_bytes()


@pytest.fixture
def here() -> Iterator[Place]:
    with clean_place("a") as one:
        yield one


async def until_state(domain: Domain, state: State, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while domain.state is not state:
            await asyncio.sleep(0.05)


async def until_console(here: Place, text: bytes) -> None:
    async with asyncio.timeout(FIRMWARE_WITHIN_S):
        while text not in here.console():
            await asyncio.sleep(0.1)


def status(pid: int, field: str) -> str:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(row.split(":")[1].strip() for row in rows if row.startswith(field + ":"))


def test_life(here: Place) -> None:
    async def life() -> None:
        disk = here.root / "data.raw"
        disk.write_bytes(bytes(1 << 20))
        boot = here.root / "boot.raw"
        boot.write_bytes(b"nothing to boot".ljust(1 << 20))
        domain = here.domain(Disk(boot, True), Disk(disk, False))
        await domain.start()
        assert domain.state is State.RUNNING
        machine = domain.machine
        assert machine is not None
        assert domain.measured is not None
        assert set(domain.measured.digests) == {domain.spec.firmware_code, boot}
        assert sorted(here.processes()) == sorted([machine.qemu.pid, machine.vtpm.pid])
        assert memfds() == []  # QEMU alone has them
        assert memfds_of(machine.qemu.pid) >= {"OVMF_CODE.fd", "boot.raw"}
        assert memfds_of(machine.vtpm.pid) == set()
        assert here.tap_in_use()
        for pid, uid in ((machine.qemu.pid, UID), (machine.vtpm.pid, TPM_UID)):
            assert status(pid, "Uid").split() == [str(uid)] * 4
            assert status(pid, "CapEff") == status(pid, "CapBnd") == "0" * 16
            assert status(pid, "NoNewPrivs") == "1"
        assert status(machine.qemu.pid, "Seccomp") == "2"
        await until_console(here, b"UEFI")
        await domain.stop()
        assert domain.state is State.OFF
        assert [one.state for one in here.changes] == ["starting", "running", "stopping", "off"]

    asyncio.run(life())
    state = here.root / "tpm-state" / "tpm2-00.permall"
    assert state.stat().st_size > 1000  # the TPM was manufactured, its state kept


def test_a_second_start_has_the_same_tpm_and_another_key_is_refused(here: Place) -> None:
    async def twice() -> None:
        domain = here.domain()
        for _ in range(2):
            await domain.start()
            await domain.stop()
            assert here.processes() == []
        here.vtpm_key = b"x" * 32
        with pytest.raises(HostError) as refused:
            await domain.start()
        assert refused.value.code == "vm-died"
        assert domain.state is State.FAILED

    asyncio.run(twice())


def test_its_portrait_and_what_was_measured(here: Place) -> None:
    async def life() -> None:
        boot = here.root / "boot.raw"
        make_esp(b"a program", boot)
        (here.root / "guest.json").write_text(json.dumps({"uki": hashlib.sha256(b"a program").hexdigest()}))
        domain = here.domain(Disk(boot, True))
        with pytest.raises(HostError) as never:
            evidence(domain, here.root)
        assert never.value.code == "never-started"
        domain.spec.firmware_code.write_bytes(b"evil")
        begun = time.time()
        await domain.start()
        machine = domain.machine
        assert machine is not None
        told = portrait(domain)
        assert told["state"] == "running"
        assert (told["pid"], told["tpm_pid"]) == (machine.qemu.pid, machine.vtpm.pid)
        assert (told["tap"], told["uid"], told["kept_off"]) == (TAP, UID, False)
        assert begun <= told["since"] <= time.time()
        found = evidence(domain, here.root)
        assert found["firmware"]["restored"]
        assert found["firmware"]["found"] == hashlib.sha256(b"evil").hexdigest()
        assert [one["now"] for one in found["files"]] == ["unchanged", "unchanged"]
        assert found["kernel_image"]["as_built"]
        await domain.stop()
        boot.write_bytes(b"something else")
        domain.spec.firmware_code.unlink()
        later = evidence(domain, here.root)  # of its last start, though it is over
        assert [one["now"] for one in later["files"]] == ["missing", "changed"]
        assert [one["sha256"] for one in later["files"]] == [one["sha256"] for one in found["files"]]
        assert later["kernel_image"] is None
        assert portrait(domain)["pid"] is None

    asyncio.run(life())


def portrait(domain: Domain) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    place = PortEntry("web", TAP, domain.spec.mac, IPv4Address("10.0.0.2"), domain.spec.uuid)
    return describe(VmGuest(domain, cast(VtpmSpec, None), bytes, loop), place, "")


def test_a_kernel_image_that_was_not_built_here_shows(here: Place) -> None:
    async def life() -> None:
        boot = here.root / "boot.raw"
        make_esp(b"another program", boot)
        domain = here.domain(Disk(boot, True))
        await domain.start()
        await domain.stop()
        kernel = evidence(domain, here.root)["kernel_image"]
        assert kernel["sha256"] == hashlib.sha256(b"another program").hexdigest()
        assert not kernel["as_built"]

    asyncio.run(life())


@pytest.mark.parametrize("victim", ["vtpm", "qemu"])
def test_without_its_tpm_or_qemu_it_is_over(here: Place, victim: str) -> None:
    async def killed() -> None:
        domain = here.domain()
        await domain.start()
        machine = domain.machine
        assert machine is not None
        os.kill(getattr(machine, victim).pid, signal.SIGKILL)
        await until_state(domain, State.FAILED, 10)
        assert {"vtpm": "the TPM died: swtpm", "qemu": "QEMU died: qemu"}[victim] in domain.reason
        assert "status -9" in domain.reason
        assert here.processes() == []
        await domain.start()  # it can be started again
        await domain.stop()

    asyncio.run(killed())


@pytest.mark.parametrize(("command", "end"), [("reset -c", GuestEnd.RESET), ("reset -s", GuestEnd.SHUTDOWN)])
def test_a_guest_ends_itself(here: Place, command: str, end: GuestEnd) -> None:
    async def ends() -> None:
        disk = startup_disk(here.root, command)
        domain = here.domain(Disk(disk, True))
        await domain.start()
        await until_state(domain, State.OFF, FIRMWARE_WITHIN_S)
        assert domain.reason == end
        assert here.processes() == []

    asyncio.run(ends())


def startup_disk(root: Path, command: str) -> Path:
    """A FAT disk whose startup.nsh the UEFI shell runs."""
    disk, script = root / "boot.raw", root / "startup.nsh"
    script.write_text(command + "\r\n")
    disk.write_bytes(bytes(2 << 20))
    subprocess.run(["mkfs.vfat", str(disk)], check=True, capture_output=True)
    subprocess.run(["mcopy", "-i", str(disk), str(script), "::startup.nsh"], check=True)
    return disk


def test_altered_firmware_is_restored_before_it_starts(here: Place) -> None:
    async def restored() -> None:
        domain = here.domain()
        domain.spec.firmware_code.write_bytes(b"evil")
        await domain.start()
        assert domain.measured is not None
        assert domain.measured.firmware.restored
        evil, golden = (hashlib.sha256(one).hexdigest() for one in (b"evil", GOLDEN))
        assert domain.reason.endswith(f"restored from the golden copy: expected SHA-256 {golden}, got {evil}")
        await domain.stop()
        assert domain.spec.firmware_code.read_bytes() == GOLDEN

    asyncio.run(restored())


@pytest.mark.parametrize("installed", [GOLDEN, b"evil"], ids=["good", "altered"])
def test_with_a_bad_golden_copy_nothing_starts_and_the_message_says_what_to_do(
    here: Place, installed: bytes
) -> None:
    async def refused() -> None:
        domain = here.domain()
        domain.spec.firmware_code.write_bytes(installed)
        golden = here.root / "golden" / "OVMF_CODE.fd"
        golden.write_bytes(GOLDEN[:-1] + b"X")
        with pytest.raises(HostError, match="nothing was started: sign a golden copy anew") as error:
            await domain.start()
        assert error.value.code == "golden-altered"
        assert domain.state is State.FAILED
        assert here.processes() == []
        assert domain.spec.firmware_code.read_bytes() == installed

    asyncio.run(refused())


def test_rejects_another_vms_tap(here: Place) -> None:
    """A tap is its own QEMU's uid's: another one can't open it, whatever its command line says."""
    run(["ip", "-n", here.namespace, "tuntap", "add", "dev", "another", "mode", "tap", "user", str(UID + 1)])

    async def refused() -> None:
        here.tap = "another"
        domain = here.domain()
        with pytest.raises(HostError, match=r"could not configure .*\(another\): Operation not permitted"):
            await domain.start()
        assert domain.state is State.FAILED
        assert here.processes() == []

    asyncio.run(refused())


BREAKAGE = {
    "no golden copy": lambda here: (here.root / "golden" / "OVMF_CODE.fd").unlink(),
    "no vars": lambda here: (here.root / "vars.fd").unlink(),
    "vars are a link": lambda here: link(here.root / "vars.fd"),
    "TPM state in the way": lambda here: (here.root / "tpm-state").write_text(""),
    "no tap": lambda here: setattr(here, "tap", "nosuchtap"),
    "run dir in the way": lambda here: (here.root / "run").write_text(""),
    "console in the way": lambda here: (
        (here.root / "run/guest/console.old/x").mkdir(parents=True)
        or (here.root / "run/guest/console.log").write_text("")
    ),
}


def link(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


@pytest.mark.parametrize("case", BREAKAGE)
def test_a_failure_in_any_step_leaves_nothing(here: Place, case: str) -> None:
    async def fails() -> None:
        BREAKAGE[case](here)
        domain = here.domain()
        with pytest.raises(HostError):
            await domain.start()
        assert domain.state is State.FAILED
        assert domain.reason
        assert domain.machine is None
        assert here.processes() == []
        assert here.sockets() == []

    asyncio.run(fails())
