"""`quotegate doctor` on this machine: with a healthy lab, with one that has faults, and without any."""

import json
import subprocess

import pytest

from tests.lab.conftest import QUOTEGATE, RunningLab
from vmhost.lab.provisioning import LabPaths

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]
EXIT_OK, EXIT_FOUND = 0, 4


def examine(lab: RunningLab, expected: int) -> dict[str, str]:
    done = lab.cli("doctor", "--json", check=False)
    assert done.returncode == expected, done.stdout.decode() + done.stderr.decode()
    return {one["check"]: one["verdict"] for one in json.loads(done.stdout)}


def test_a_healthy_lab_has_no_fault(lab: RunningLab) -> None:
    lab.cli("authority", "grant", "--for", "8h")
    found = examine(lab, EXIT_OK)
    assert set(found.values()) <= {"ok", "warning"}, found
    assert {"TPM of web", "EK certificate of db", "software TPM", "packet filter", "authority"} <= set(found)


def test_each_fault_is_named(lab: RunningLab) -> None:
    shared = LabPaths(lab.lab).shared
    references = (shared / "references.json").read_bytes()
    lab.lab.administrator_key.chmod(0o644)
    (shared / "references.json").write_bytes(b"{}")
    lab.api.post("/v1/peers/ops/quarantine")
    try:
        found = examine(lab, EXIT_FOUND)
        bad = {check for check, verdict in found.items() if verdict == "bad"}
        assert bad == {"secret files", "references.json", "TPM of ops"}
        words = lab.cli("doctor", check=False).stdout.decode()
        assert "quotegate peer release ops" in words
        assert "administrator.key (0644)" in words
    finally:
        lab.lab.administrator_key.chmod(0o600)
        (shared / "references.json").write_bytes(references)
        lab.api.post("/v1/peers/ops/release")


def test_without_a_lab_it_says_what_it_could_not_look_at(lab: RunningLab) -> None:
    """Another name: nothing of it is there."""
    done = subprocess.run(
        [QUOTEGATE, "doctor", "--lab", "nothing-here"], capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_OK, done.stdout + done.stderr
    assert "not-checked  gateway" in done.stdout
