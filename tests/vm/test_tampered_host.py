"""What whoever holds the host may try: more options for QEMU, copied TPMs, other taps, killed TPMs, images that hang."""

import base64
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.vm.conftest import RETURN_S, VmLab, predicted
from tests.vm.hand import hand, taken_from_the_monitor
from vmhost.commands import in_namespace, run
from vmhost.image.references import PCRS
from vmhost.lab.vms import VmPaths
from vmhost.monitor.client import ask
from vmhost.names import GATEWAY

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]
NOBODY_IS_RESTARTED = 'peer = "none"'
CREDENTIAL = base64.b64encode(b"f /var/tmp/evil 0644 root root - evil\n").decode()
SMBIOS = (
    "-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=quotegate.evil=1",
    "-smbios", f"type=11,value=io.systemd.credential.binary:tmpfiles.extra={CREDENTIAL}",
    "-fw_cfg", "name=opt/io.systemd.credentials/sysctl.extra,string=kernel.domainname=evil",
)  # fmt: skip
TABLE = "/sys/firmware/dmi/tables/DMI"


@pytest.fixture(autouse=True)
def all_are_well(vms: VmLab) -> None:
    """Begin with everybody trusted, whatever the test before did."""
    vms.until(vms.all_trusted)


def test_smbios_and_fw_cfg_change_nothing_inside(vms: VmLab) -> None:
    """The image's stub takes no command line from there, the gateway's systemd no credentials; both are handed in."""
    with vms.on_fail(NOBODY_IS_RESTARTED):
        with taken_from_the_monitor(vms, GATEWAY, "web"), hand(vms) as root:
            root.start(root.own("web"), *SMBIOS)
            root.start(root.own(GATEWAY), *SMBIOS)
            vms.until(vms.all_trusted)
            for machine, image in (("web", "guest"), (GATEWAY, "gateway")):
                assert int(vms.inside(machine, f"grep -c kernel-cmdline-extra=quotegate.evil {TABLE}")) > 0
                assert "quotegate.evil" not in vms.inside(machine, "cat /proc/cmdline")
                expected = predicted(image)
                assert vms.booted_pcrs(machine, PCRS) == {index: expected[index] for index in PCRS}
            left = "ls -d /run/credentials/@system /var/tmp/evil 2>&1; cat /proc/sys/kernel/domainname"
            said = vms.inside(GATEWAY, left).splitlines()
            assert sum("No such file" in line for line in said) == 2
            assert "evil" not in said[-1]
            assert vms.inside(GATEWAY, "systemctl --failed --plain --no-legend") == ""
        vms.until(lambda: vms.status_of(GATEWAY)["pids"])
        vms.until(vms.all_trusted)


def test_rejects_a_rolled_back_tpm(vms: VmLab) -> None:
    paths, after = VmPaths(vms.lab, "web"), vms.last_sequence()
    with vms.on_fail(NOBODY_IS_RESTARTED):
        ask(vms.lab, "stop_machine", name="web")
        newest = paths.tpm_state.rename(paths.tpm_state.with_name("tpm.newest"))
        vms.first_tpm("web").rename(paths.tpm_state)
        try:
            ask(vms.lab, "start_machine", name="web")
            # a slow machine's silence is held against it before, and nothing once more after that
            vms.until(
                lambda: any(one[:2] == ("web", "reset-count-regression") for one in vms.failures(after))
            )
            assert vms.peer("web")["state"] == "failed"
        finally:
            ask(vms.lab, "stop_machine", name="web")
            paths.tpm_state.rename(vms.first_tpm("web"))
            newest.rename(paths.tpm_state)
            ask(vms.lab, "start_machine", name="web")
        vms.until(lambda: vms.peer("web")["state"] == "trusted")


def spoofed(lab: VmLab) -> int:
    """How many frames the host's bridge dropped because their port is not their sender's."""
    shown = run(
        in_namespace(
            lab.lab.host_namespace, ["nft", "list", "counter", "bridge", "quotegate_host", "spoofed-source"]
        )
    )
    return int(shown.split("packets ")[1].split()[0])


def test_a_cloned_machine_at_another_ones_tap_gets_nowhere(vms: VmLab) -> None:
    """Web's image, settings, TPM and MAC at db's tap, while web runs: dropped; then in db's address, in both names."""
    web, after = vms.peer("web")["session_id"], vms.last_sequence()
    with vms.on_fail(NOBODY_IS_RESTARTED), taken_from_the_monitor(vms, "db"), hand(vms) as root:
        dropped = spoofed(vms)
        root.start(root.in_the_place_of("db", "web"))
        assert "NAME=web" in vms.inside("db", "cat /config/network")
        vms.until(lambda: spoofed(vms) > dropped, 30)
        db = vms.spec.machine("db")
        vms.inside(
            "db",
            f"ip link set eth0 down; ip link set eth0 address {db.mac}; ip addr flush dev eth0; "
            f"ip addr add {db.ip}/24 dev eth0; ip link set eth0 up; ip route add default via {vms.spec.gateway.ip}",
        )
        vms.until(lambda: ("db", "wrong-place", False) in vms.failures(after), 60)
        vms.inside("db", 'sed -i \'s#"peer_id": "\\(.*\\)/web"#"peer_id": "\\1/db"#\' /config/setup.json')
        vms.inside("db", "kill $(pidof python3.11)")
        vms.until(lambda: ("db", "tpm-clone", False) in vms.failures(after), 60)
        told = [str(one) for one in vms.events(after, "attestation-failed")]
        assert any("db shows the attestation key that web has" in one for one in told)
        assert vms.peer("db")["state"] != "trusted"
    assert vms.peer("web")["state"] == "trusted"
    assert vms.peer("web")["session_id"] == web
    shutil.rmtree(VmPaths(vms.lab, "db").directory / "tpm.copy")
    vms.until(vms.all_trusted)


def test_a_killed_tpm_and_altered_firmware_end_in_a_restart_on_good_firmware(vms: VmLab) -> None:
    firmware = VmPaths(vms.lab, "web").firmware
    good, before = firmware.read_bytes(), vms.status_of("web")["pids"]
    vms.cli("lab", "tamper", "web", "--with", "firmware")
    assert firmware.read_bytes() != good
    os.kill(before["swtpm"], signal.SIGKILL)
    vms.until(lambda: not vms.status_of("web")["pids"], 10)  # a guest without its TPM goes nowhere
    vms.until(lambda: vms.status_of("web")["pids"] and vms.peer("web")["state"] == "trusted")
    assert firmware.read_bytes() == good
    log = Path(vms.lab.run_dir / "log" / "monitor.log").read_text()
    assert "VM web is failed: the TPM died: swtpm-web" in log
    assert "VM web is running: its firmware was restored from the golden copy: expected SHA-256" in log


def test_a_guest_that_hangs_while_it_boots_is_restarted_and_ends_in_quarantine(vms: VmLab) -> None:
    disk, after = VmPaths(vms.lab, "db").disk, vms.last_sequence()
    good = disk.read_bytes()
    # the window has room for one restart and its time, and for none of before
    with vms.on_fail(
        f'peer = "restart", max_restarts = 1, window = "{RETURN_S + 15:.0f}s", then = "quarantine"'
    ):
        vms.cli("lab", "tamper", "db", "--with", "boot")
        vms.cli("peer", "restart", "db")
        vms.until(lambda: vms.peer("db")["state"] == "quarantined", 4 * RETURN_S)
        late = f"did not come back trusted within {RETURN_S:.0f} s"
        remedies = [str(one) for one in vms.events(after, "peer-remedied")]
        assert sum(late in one for one in remedies) == 2
        assert vms.peer("web")["state"] == "trusted"
        disk.write_bytes(good)
        vms.cli("peer", "release", "db")
        vms.until(lambda: vms.peer("db")["state"] == "trusted")
