"""The whole path of docs/own-guest.md: a Debian of one's own becomes trusted with what `quotegate guest issue` wrote."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.conftest import QUOTEGATE, RunningLab, running
from tests.vm.own_guest import QEMU_UID, TPM_UID, OwnGuest, own_guest, package, running_guest
from vmhost.commands import in_namespace, run
from vmhost.issue.guest import SETTINGS
from vmhost.lab.defaults import default_spec
from vmhost.lab.provisioning import LabPaths
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.vm, pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(900)]
NAME, IP, TAP = "mine", "10.77.0.9", "qgown0"
BOOT_S = 200.0
RULE = '\n[[rule]]\nid = "mine-to-db"\nfrom = "mine"\nto = "db"\nservice = "tcp/5432"\naction = "allow"\nlease = "5m"\n'


@pytest.fixture(scope="module")
def own() -> Iterator[OwnGuest]:
    with own_guest() as one:
        one.make(package(one.room / "package"), IP)
        one.make_uki()
        yield one


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running(replace(default_spec(Lab(f"o{os.getpid()}"), 2), beacon_interval_ms=1000)) as one:
        yield one


def cli(*words: object) -> str:
    done = subprocess.run([QUOTEGATE, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(readme: str, number: int) -> list[str]:
    """What a step says to type."""
    step = re.split(r"(?m)^\d\. ", readme)[number]
    return re.findall(r"(?m)^   ((?:nft|sh|cp) .*)$", step)


def test_an_own_debian_becomes_trusted_and_is_cut(own: OwnGuest, lab: RunningLab) -> None:
    issued, vouching = own.room / "issued", own.room / "authority"
    cli("image", "describe", NAME, "--uki", own.uki, "--root", own.root, "--out", own.room / "image")
    cli("guest", "authority", vouching)
    references = own.room / "references.json"
    key = vouching / "signing.key"
    cli("image", "sign", NAME, "--key", key, "--version", 2, "--out", own.room / "image", "-o", references)
    said = cli(
        "guest", "issue", NAME, "--lab", lab.lab.name, "--ip", IP, "--port", TAP, "--image", NAME, "--references",
        references, "--new-tpm", TPM_UID, "--authority", vouching, "--out", issued, "--json",
    )  # fmt: skip
    facts, readme = json.loads(said), (issued / "README").read_text()
    shutil.copytree(issued / "guest", own.root / SETTINGS.relative_to("/"), dirs_exist_ok=True)
    own.inside("systemctl enable --quiet quotegate-agent")
    own.make_disks()

    host = lab.lab.host_namespace
    run(["ip", "-n", host, "tuntap", "add", "dev", TAP, "mode", "tap", "user", str(QEMU_UID)])
    for line in commands(readme, 1):
        run(in_namespace(host, ["sh", "-c", line]))
    for line in commands(readme, 2):
        run(["sh", "-c", line])
    lab.cli("authority", "grant", "--for", "1h")
    os.kill(ask(lab.lab, "status")["gateway"]["pids"]["quotegated"], signal.SIGKILL)
    lab.until(lambda: lab.peer(NAME)["state"] == "unknown")
    lab.until(lambda: lab.peer("db")["state"] == "trusted")
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as policy:
        words = (LabPaths(lab.lab).gateway_dir / f"policy-{NAME}.toml").read_text()
        policy.write(f"{lab.spec.policy_text}\n{words}{RULE}")
        policy.flush()
        lab.cli("policy", "apply", policy.name)
    lab.cli("peer", "enroll", NAME, "--ek", facts["ek"])

    mac = re.search(r"MAC (\S+) ", readme)
    assert mac is not None
    echo = lab.start("db", "tests.foreign.echo", 5432)
    try:
        assert echo.stdout is not None
        echo.stdout.readline()
        with running_guest(own, host, TAP, mac[1], facts["uuid"], issued / "tpm") as guest:
            try:
                lab.until(lambda: lab.peer(NAME)["state"] == "trusted", BOOT_S)
            except AssertionError:
                raise AssertionError(
                    f"{lab.peer(NAME)}\n{lab.cli('events').stdout.decode()[-3000:]}\n{guest.console()[-3000:]}"
                ) from None
            talked = guest.run("echo hello | quotegate-agent connect db tcp/5432")
            assert "hello\n" in talked
            assert "delivered: sent 6 bytes, 6 acknowledged, 6 confirmed by db" in talked
            before = lab.last_sequence()
            guest.run(
                "cp /bin/true /tmp/foreign && printf x >>/tmp/foreign && chmod 755 /tmp/foreign && /tmp/foreign"
            )
            lab.until(lambda: (NAME, "unknown-file", True) in lab.failures(before))
            assert lab.peer(NAME)["state"] != "trusted"
    finally:
        echo.kill()
        echo.communicate()
