"""Enrollment by an operator's word: nobody is trusted before it."""

import hashlib
import os

import pytest

from gateway.cli.client import ApiClient, api_socket
from tests.lab.conftest import QUOTEGATE, RunningLab
from vmhost.commands import run
from vmhost.lab.defaults import default_spec
from vmhost.lab.provisioning import LabPaths
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]


def test_a_tpm_waits_until_it_is_approved() -> None:
    lab = Lab(f"e{os.getpid()}")
    try:
        said = run([QUOTEGATE, "lab", "up", "--lab", lab.name, "--ask-approval"])
        assert "0 of 3 peers have proved themselves" in said
        assert f"to approve a TPM: quotegate peer approve web --lab {lab.name}" in said
        running = RunningLab(default_spec(lab), ApiClient(api_socket(lab.name)))
        running.until(lambda: all(one["enrollment"] == "pending" for one in running.json("peers")))
        assert {one["state"] for one in running.json("peers")} == {"unknown"}
        assert b"pending" in running.exec("web", "quotegate-agent", "status").stdout
        running.cli("peer", "approve", "web")
        running.until(lambda: running.peer("web")["state"] == "trusted")
        certificate = LabPaths(lab).peer_dir("db") / "ek_certificate.der"
        fingerprint = "sha256:" + hashlib.sha256(certificate.read_bytes()).hexdigest()
        assert running.cli("peer", "enroll", "db", "--ek", "sha256:12", check=False).returncode == 1
        running.cli("peer", "enroll", "db", "--ek", fingerprint)
        running.until(lambda: running.peer("db")["state"] == "trusted")
        assert running.peer("ops")["state"] == "unknown"
    finally:
        run([QUOTEGATE, "lab", "down", "--lab", lab.name])
