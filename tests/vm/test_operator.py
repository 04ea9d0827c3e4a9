"""`quotegate-host vm` over real machines: what is listed, what was measured, what is switched off and on."""

import hashlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.vm.conftest import IMAGES, VmLab
from vmhost.names import GATEWAY

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]
HOST = str(Path(".venv/bin/quotegate-host").resolve())
SILENT_S = 40.0  # after 25 intervals without a word the gateway wants a machine restarted


def host(vms: VmLab, *words: str) -> "subprocess.CompletedProcess[bytes]":
    command = [HOST, "vm", *words, "--lab", vms.lab.name]
    return subprocess.run(command, capture_output=True, timeout=300, check=False)


def listed(vms: VmLab) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(host(vms, "list", "--json").stdout)["vms"]}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_machine_is_listed_with_its_place_and_its_own_uid(vms: VmLab) -> None:
    found = listed(vms)
    assert set(found) == {GATEWAY, "web", "db"}
    assert len({one["uid"] for one in found.values()}) == 3
    for name, one in found.items():
        place, pids = vms.spec.machine(name), vms.status_of(name)["pids"]
        assert one["state"] == "running"
        assert (one["tap"], one["mac"], one["ip"]) == (place.port, place.mac, str(place.ip))
        assert (one["pid"], one["tpm_pid"]) == (pids["qemu"], pids["swtpm"])
        uids = next(
            row
            for row in Path(f"/proc/{one['pid']}/status").read_text().splitlines()
            if row.startswith("Uid")
        )
        assert uids.split()[1] == str(one["uid"])


@pytest.mark.parametrize(("machine", "image"), [(GATEWAY, "gateway"), ("web", "guest")])
def test_what_was_measured_are_the_built_files(vms: VmLab, machine: str, image: str) -> None:
    done = host(vms, "evidence", machine, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    digests = {Path(one["path"]).name: one["sha256"] for one in told["files"]}
    assert digests["boot.img"] == sha256(IMAGES / f"{image}.img")
    assert (
        digests["OVMF_CODE.fd"] == told["firmware"]["digest"] == sha256(Path("/usr/share/OVMF/OVMF_CODE.fd"))
    )
    assert told["kernel_image"]["sha256"] == sha256(IMAGES / f"{image}.efi")
    if machine == GATEWAY:
        assert digests["root.img"] == sha256(IMAGES / "gateway.root")


def test_the_console_shows_the_boot(vms: VmLab) -> None:
    assert b"quotegate guest: up" in host(vms, "console", "web").stdout


def test_a_stopped_guest_stays_off_until_it_is_started(vms: VmLab) -> None:
    restarts = vms.peer("web")["restarts"]
    assert host(vms, "stop", "web").returncode == 0
    begun = time.monotonic()
    vms.until(lambda: vms.peer("web")["state"] == "failed", SILENT_S)
    assert time.monotonic() - begun > 20  # it was its silence
    time.sleep(3)
    assert (vms.peer("web")["state"], vms.peer("web")["restarts"]) == ("failed", restarts)
    found = listed(vms)["web"]
    assert (found["state"], found["kept_off"], found["pid"]) == ("off", True, None)
    assert vms.peer("db")["state"] == "trusted"
    assert host(vms, "start", "web").returncode == 0
    vms.until(lambda: vms.peer("web")["state"] == "trusted")
    again = host(vms, "start", "web")
    assert (again.returncode, b"already-running" in again.stderr) == (3, True)


def test_a_stopped_gateway_is_not_revived(vms: VmLab) -> None:
    assert host(vms, "stop", GATEWAY).returncode == 0
    time.sleep(5)
    assert vms.status_of(GATEWAY)["pids"] == {}
    assert host(vms, "start", GATEWAY).returncode == 0
    vms.until(vms.all_trusted)
