"""The whole path of docs/own-guest.md: a Debian of one's own becomes trusted with what `quotegate guest issue` wrote."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.conftest import RunningLab, running
from tests.lab.joining import cli, join, vouch
from tests.vm.own_guest import QEMU_UID, TPM_UID, OwnGuest, own_guest, package, running_guest
from vmhost.commands import run
from vmhost.issue.guest import SETTINGS
from vmhost.lab.defaults import default_spec
from vmhost.names import Lab

pytestmark = [pytest.mark.vm, pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(1200)]
NAME, IP, TAP = "mine", "10.77.0.9", "qgown0"
BOOT_S = 200.0


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


def test_an_own_debian_becomes_trusted_and_is_cut(own: OwnGuest, lab: RunningLab) -> None:
    issued, host = own.room / "issued", lab.lab.host_namespace
    authority, references = vouch(NAME, own.uki, own.root, own.room)
    said = cli(
        "guest", "issue", NAME, "--lab", lab.lab.name, "--ip", IP, "--port", TAP, "--image", NAME, "--references",
        references, "--new-tpm", TPM_UID, "--authority", authority, "--out", issued, "--json",
    )  # fmt: skip
    facts = json.loads(said)
    shutil.copytree(issued / "guest", own.root / SETTINGS.relative_to("/"), dirs_exist_ok=True)
    own.inside("systemctl enable --quiet quotegate-agent")
    own.make_disks()
    run(["ip", "-n", host, "tuntap", "add", "dev", TAP, "mode", "tap", "user", str(QEMU_UID)])
    lab.cli("authority", "grant", "--for", "1h")
    join(lab, issued, NAME, facts["ek"])

    mac = re.search(r"MAC (\S+) ", (issued / "README").read_text())
    assert mac is not None
    echo = lab.start("db", "tests.foreign.echo", 5432)
    try:
        assert echo.stdout is not None
        echo.stdout.readline()
        with running_guest(own, host, TAP, mac[1], facts["uuid"], issued / "tpm") as guest:
            try:
                lab.until(lambda: lab.peer(NAME)["state"] == "trusted", BOOT_S)
            except AssertionError:
                said = lab.cli("events").stdout.decode()[-2000:]
                raise AssertionError(f"{lab.peer(NAME)}\n{said}\n{guest.console()[-2000:]}") from None
            first = guest.run(
                "grep '/lib/systemd/systemd *$' /sys/kernel/security/ima/ascii_runtime_measurements"
            )
            assert re.match(r"0: 10 .*/lib/systemd/systemd", first), first
            talked = guest.run("echo hello | quotegate-agent connect db tcp/5432")
            assert "hello\n" in talked
            assert "delivered: sent 6 bytes, 6 acknowledged, 6 confirmed by db" in talked
            before = lab.last_sequence()
            guest.run("cp /bin/true /tmp/foreign && printf x >>/tmp/foreign && /tmp/foreign")
            lab.until(lambda: (NAME, "unknown-file") in [one[:2] for one in lab.failures(before)])
            assert lab.peer(NAME)["state"] != "trusted"
    finally:
        echo.kill()
        echo.communicate()
