"""The line of a guest to its host, with real machines: witnesses of the record, reports of a bad gateway, noise."""

import json
from typing import Any

import pytest

from tests.vm.conftest import VmLab
from vmhost.names import GATEWAY

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]
# what the agent holds open nobody else can write to
SPEAK = "kill -KILL $(pidof python3.11); sleep 0.3; printf '{}' >/run/host-line"
# as root in the gateway, taken over after it started well; its profile names this PCR. Its end comes before an answer.
EXTEND = (
    "PYTHONPATH=/usr/lib/quotegate PYTHONDONTWRITEBYTECODE=1 python3.11 -c "
    "'from authn.tpm import Tpm; t = Tpm(\"device:/dev/tpmrm0\"); t.__enter__().extend(12, bytes(32))' >/dev/null 2>&1 &"
)


def audit(vms: VmLab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(vms.cli("audit", "verify", "--json", check=False).stdout)
    return found


def log(vms: VmLab) -> str:
    return (vms.lab.run_dir / "log" / "monitor.log").read_text()


def test_guests_are_witnesses_of_the_record(vms: VmLab) -> None:
    vms.until(lambda: audit(vms)["witnesses"] == 2, 30)
    assert audit(vms)["intact"], audit(vms)
    remembered = json.loads((vms.lab.state_dir / "peers/web/audit_head.json").read_text())
    inside = json.loads(vms.inside("web", "cat /var/lib/quotegate/audit_head.json"))
    assert remembered["source"] == inside["source"]
    assert 0 < remembered["sequence"] <= inside["sequence"]


def test_noise_on_the_line_is_told_and_changes_nothing(vms: VmLab) -> None:
    starts = vms.status_of(GATEWAY)["starts"]
    vms.inside("web", SPEAK.format("restart the gateway\\ngateway-failed nonsense\\n"))
    vms.until(lambda: "VM web on its line: refused: bad-report" in log(vms), 10)
    vms.until(lambda: "got nonsense" in log(vms), 10)
    vms.until(vms.all_trusted)
    assert vms.status_of(GATEWAY)["starts"] == starts


def test_a_gateway_that_its_guests_refuse_is_restarted(vms: VmLab) -> None:
    before = vms.status_of(GATEWAY)
    vms.inside(GATEWAY, EXTEND)
    vms.until(lambda: vms.status_of(GATEWAY)["starts"] > before["starts"])
    after = vms.status_of(GATEWAY)
    assert after["starts"] == before["starts"] + 1
    who = after["last_restart"].split()[0]
    assert after["last_restart"] == f"{who} refused it: pcr-mismatch"
    assert f"VM {who} on its line: the gateway failed: pcr-mismatch" in log(vms)
    assert after["pids"]["qemu"] != before["pids"]["qemu"]
    vms.until(vms.all_trusted)
    assert audit(vms)["intact"], audit(vms)
