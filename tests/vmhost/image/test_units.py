"""How exposed the services of our images are, by systemd's own reckoning (`systemd-analyze security`)."""

import re
import shutil
import subprocess

import pytest

from vmhost.lab.setup import PROJECT

THRESHOLD = 2.0
GATEWAY = PROJECT / "appliance-image/gateway/root/files"
AGENT = PROJECT / "appliance-image/agent-deb/files"
# the highest that each may have
SERVICES = {
    ("netd", GATEWAY): 1.7,
    ("tpmd", GATEWAY): 0.7,
    ("quotegated", GATEWAY): 1.3,
    ("inspector", GATEWAY): 1.3,
    ("inspector@fresh", GATEWAY): 1.3,
    ("hostlink", GATEWAY): 0.7,
    ("quotegate-agent", AGENT): 1.7,
}
# root's own steps of the boot, each of which ends before a service starts, and the host's way in
SETTING_UP = {"quotegate-firewall", "quotegate-prepare", "quotegate-state", "quotegate-console"}


@pytest.mark.parametrize(("unit", "root"), SERVICES)
def test_services_are_confined(unit, root) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing: run scripts/setup-images (Debian package systemd)")
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--root={root}", f"{unit}.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= SERVICES[unit, root] <= THRESHOLD


def test_no_service_is_forgotten() -> None:
    units = {path.stem for root in (GATEWAY, AGENT) for path in root.rglob("*.service")}
    assert units == {unit.removesuffix("fresh") for unit, _ in SERVICES} | SETTING_UP
