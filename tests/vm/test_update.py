"""Updates of the gateway's image, each really booted: a good one, two bad ones, and one that is too old. In this order."""

from pathlib import Path
from typing import Any

import pytest

from tests.vm.conftest import VmLab
from tests.vm.variants import newer, with_words
from tests.vmhost.update.bundles import put
from vmhost.image.predict import predict
from vmhost.image.references import PCRS, Image, pcr_values, value_name
from vmhost.lab.gateway_slots import LabSlots
from vmhost.lab.provisioning import load_administrator_key, load_authority_key
from vmhost.monitor.client import ask
from vmhost.names import GATEWAY
from vmhost.update.bundle import write_bundle
from vmhost.update.manifest import ROOT

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]
TRY = ("--tries", "1", "--within", "4m")
PATIENCE_S = 840


def bundled(vms: VmLab, image: Path, version: int) -> Path:
    """Sign an update of an image with the lab's keys, as an operator does."""
    out = image.with_name(f"{image.name}-{version}")
    vms.cli("image", "bundle", GATEWAY, "--out", str(image), "--version", str(version), "-o", str(out))
    return out


def status(vms: VmLab) -> dict[str, Any]:
    return ask(vms.lab, "update_status")


def outcomes(vms: VmLab, after: int) -> list[tuple[str, int, str]]:
    """What the gateway's record says of updates after a number."""
    told = [one["unmapped"] for one in vms.events(after, "gateway-updated")]
    return [(one["outcome"], one["version"], one["detail"]) for one in told]


def guests(vms: VmLab) -> list[int]:
    return [vms.status_of(name)["pids"]["qemu"] for name in ("web", "db")]


def test_a_good_update_is_in_force_and_everything_goes_on(vms: VmLab, tmp_path: Path) -> None:
    image = newer(tmp_path / "image", 2)
    update, before, machines = bundled(vms, image, 2), vms.last_sequence(), guests(vms)
    assert b"are good" in vms.cli("update", "check", str(update)).stdout
    done = vms.cli("update", "apply", str(update), *TRY, within_s=PATIENCE_S)
    assert b"version 2 passed its self-test and is in force (slot b)" in done.stdout
    vms.until(vms.all_trusted)
    assert guests(vms) == machines  # nobody was restarted
    uki = (image / f"{GATEWAY}.efi").read_bytes()
    values = pcr_values({value_name(GATEWAY, pcr): one for pcr, one in predict(uki).items()}, GATEWAY)
    assert vms.booted_pcrs(GATEWAY, PCRS) == {pcr: value.hex() for pcr, value in values.items()}
    assert vms.last_sequence() > before
    assert vms.api.get("/v1/status")["authority"] == "valid"
    assert outcomes(vms, before) == [("blessed", 2, "slot b, before: version 1")]
    assert len(vms.events(before, "gateway-proved")) == 1
    assert vms.json("audit", "verify")["intact"]


def test_rejects_altered_update_and_goes_on_undisturbed(vms: VmLab, tmp_path: Path) -> None:
    update, before = bundled(vms, newer(tmp_path / "image", 3), 3), status(vms)
    pid = vms.status_of(GATEWAY)["pids"]["qemu"]
    root = bytearray((update / ROOT).read_bytes())
    root[len(root) // 2] ^= 1
    put(update / ROOT, bytes(root))
    refused = vms.cli("update", "apply", str(update), check=False)
    assert refused.returncode == 1
    assert b"file-altered" in refused.stderr
    assert (status(vms), vms.status_of(GATEWAY)["pids"]["qemu"]) == (before, pid)


def fell_back(vms: VmLab, update: Path, version: int, within: str = "4m") -> str:
    """Apply an update that must fail; return why it did, as the record says it."""
    before = vms.last_sequence()
    words = ("update", "apply", str(update), "--tries", "1", "--within", within)
    done = vms.cli(*words, check=False, within_s=PATIENCE_S)
    assert done.returncode == 3, done.stderr
    assert f"version {version} failed; version 2 is in force as before".encode() in done.stdout
    vms.until(vms.all_trusted)
    found = status(vms)
    assert (found["version"], found["slots"]["a"]["state"]) == (2, "bad")
    ((outcome, failed, why),) = outcomes(vms, before)
    assert (outcome, failed) == ("fell-back", version)
    assert vms.api.get("/v1/status")["authority"] == "valid"
    return why


def test_a_kernel_that_panics_is_followed_by_the_image_before(vms: VmLab, tmp_path: Path) -> None:
    image = with_words(tmp_path / "image", "rdinit=/nothing")
    why = fell_back(vms, bundled(vms, image, 4), 4)
    assert "ended while it started" in why
    assert "Kernel panic" in vms.console(GATEWAY)


def test_an_image_that_fails_its_self_test_is_followed_by_the_image_before(
    vms: VmLab, tmp_path: Path
) -> None:
    image = with_words(tmp_path / "image", "lsm=lockdown,yama,integrity")  # no Landlock
    why = fell_back(vms, bundled(vms, image, 5), 5, "120s")
    assert "inspector: an inspector is not confined by landlock" in why


def test_after_a_commit_an_older_image_gets_nowhere_near_the_state(vms: VmLab, tmp_path: Path) -> None:
    before = vms.last_sequence()
    assert b"version 2 and newer" in vms.cli("update", "commit").stdout
    assert outcomes(vms, before)[0][:2] == ("committed", 2)
    refused = vms.cli("update", "rollback", check=False)
    assert b"no-way-back" in refused.stderr
    # approved and signed, and put into the slot by hand, past every check of the host's
    image = Image.load(newer(tmp_path / "image", 1), GATEWAY)
    key, authority = load_administrator_key(vms.lab), load_authority_key(vms.lab.authority_key)
    old = write_bundle(image, tmp_path / "old", 1, 4e9, key, authority)
    refused = vms.cli("update", "apply", str(old.directory), check=False)
    assert b"version-too-low" in refused.stderr
    slots, store = LabSlots(vms.spec).load().cleared(), LabSlots(vms.spec)
    store.fill(slots.active.other, old)
    store.save(slots.offered(1, 1, 240))
    ask(vms.lab, "restart_gateway", PATIENCE_S, reset_tpm=True)
    vms.until(vms.all_trusted)
    assert status(vms)["version"] == 2
    ((_, version, why),) = outcomes(vms, before)[1:]
    assert version == 1
    assert "version-too-low" in why
