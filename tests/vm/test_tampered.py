"""Images that were altered, each really booted."""

import pytest

from tests.vm.conftest import BOOT_S, VmLab
from vmhost.errors import HostError
from vmhost.lab.tamper import Alteration, alter_disk, alter_machine
from vmhost.lab.vms import VmPaths
from vmhost.monitor.client import ask
from vmhost.names import GATEWAY

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


def test_rejects_altered_initrd_and_ends_in_quarantine(vms: VmLab) -> None:
    disk = VmPaths(vms.lab, "web").disk
    good, after = disk.read_bytes(), vms.last_sequence()
    with vms.on_fail('peer = "restart", max_restarts = 3, window = "15m", then = "quarantine"'):
        vms.cli("lab", "tamper", "web", "--with", "initrd")
        vms.cli("peer", "restart", "web")
        vms.until(lambda: vms.peer("web")["state"] == "quarantined", 600)
    failures = vms.failures(after)
    assert ("web", "reference-mismatch", True) in failures
    told = [one["unmapped"] for one in vms.events(after, "attestation-failed")]
    assert any("initrd" in str(one) for one in told)
    disk.write_bytes(good)
    vms.cli("peer", "release", "web")
    vms.until(lambda: vms.peer("web")["state"] == "trusted")


@pytest.mark.parametrize("alteration", [Alteration.COMMAND_LINE, Alteration.BOOT_OPTIONS])
def test_rejects_altered_gateway_its_state_stays_closed(vms: VmLab, alteration: Alteration) -> None:
    """The image as it was built, started with another command line, too: PCR 11 shows nothing of that."""
    disk = VmPaths(vms.lab, GATEWAY).disk
    good = disk.read_bytes()
    try:
        alter_disk(disk, alteration)
        with pytest.raises(HostError) as raised:
            ask(vms.lab, "restart_gateway", timeout_s=BOOT_S, reset_tpm=True)
        assert "not-approved" in raised.value.message
    finally:
        disk.write_bytes(good)
    vms.until(vms.all_trusted)


def test_rejects_flipped_byte_in_the_verified_root(vms: VmLab) -> None:
    paths = VmPaths(vms.lab, GATEWAY)
    good = paths.root.read_bytes()
    try:
        alter_machine(paths, Alteration.ROOT)
        with pytest.raises(HostError):
            ask(vms.lab, "restart_gateway", timeout_s=BOOT_S, reset_tpm=True)
        assert "dm-verity" in vms.console(GATEWAY)
    finally:
        paths.root.write_bytes(good)
    vms.until(vms.all_trusted)


def test_credentials_from_whoever_starts_qemu_are_not_taken(vms: VmLab) -> None:
    assert "systemd.import_credentials=no" in vms.inside(GATEWAY, "cat /proc/cmdline")
    assert "skipping importing of credentials" in vms.inside(GATEWAY, "journalctl -b -o cat")
