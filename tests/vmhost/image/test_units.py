"""How exposed the services of our images are, by systemd's own reckoning (`systemd-analyze security`); which of them are started."""

import re
import shutil
import subprocess

import pytest

from filters.ruleset.names import MOST_INSPECTORS
from gateway.inspection.heartbeats import SILENT_S
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


UNITS = GATEWAY / "usr/lib/systemd/system"


def test_as_many_inspectors_can_be_asked_for_as_there_are_numbers() -> None:
    wanted = re.findall(r"inspector@(\d+)\.service", (UNITS / "default.target").read_text())
    assert [int(one) for one in wanted] == list(range(1, MOST_INSPECTORS))
    assert f"[1-{MOST_INSPECTORS}]) ;;" in (GATEWAY / "usr/lib/quotegate-appliance/prepare").read_text()
    replaced = (GATEWAY / "usr/lib/quotegate-appliance/replace").read_text()
    assert f"inspector-[1-{MOST_INSPECTORS - 1}])" in replaced


def test_both_units_of_inspectors_say_the_same_but_for_number_and_place() -> None:
    own = ("Description=", "ConditionPathExists=", "EnvironmentFile=", "ExecStart=")
    one, other = (
        sorted(line for line in (UNITS / name).read_text().splitlines() if not line.startswith(own))
        for name in ("inspector.service", "inspector@.service")
    )
    assert one == other


@pytest.mark.parametrize("unit", ["inspector.service", "inspector@.service"])
def test_the_gateway_hears_of_a_silent_inspector_before_systemd_ends_it(unit: str) -> None:
    text = (UNITS / unit).read_text()
    found = re.search(r"^WatchdogSec=(\d+)$", text, re.MULTILINE)
    assert found
    assert int(found[1]) > SILENT_S + 5
    assert {"Type=notify", "WatchdogSignal=SIGKILL", "Restart=on-failure"} <= set(text.splitlines())
