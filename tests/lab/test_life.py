"""Coming up, going down, dying at any moment: nothing is left behind. And the demonstration itself."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gateway.cli.client import ApiClient, api_socket
from tests.lab.conftest import QUOTEGATE
from vmhost.commands import run
from vmhost.lab.teardown import MONITOR_PID
from vmhost.names import Lab
from vmhost.topology import namespaces_of

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]


def leftovers(lab: Lab) -> list[str]:
    found = namespaces_of(lab)
    found += [str(path) for path in (lab.run_dir, lab.state_dir) if path.exists()]
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"/{lab.name}/" in (entry / "cmdline").read_text().replace("\0", " "):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found + [line for line in Path("/proc/mounts").read_text().splitlines() if f"/{lab.name}/" in line]


def wait_clean(lab: Lab, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while leftovers(lab) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert leftovers(lab) == []


@pytest.mark.timeout(240)
def test_the_demonstration_comes_out_as_it_should() -> None:
    demo = subprocess.run(
        [QUOTEGATE, "lab", "demo"], capture_output=True, text=True, timeout=220, check=False
    )
    assert demo.returncode == 0, demo.stdout[-3000:] + demo.stderr[-3000:]
    assert demo.stdout.count("is true") == 8


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demonstration_leaves_nothing(how: signal.Signals) -> None:
    # a shell starts background jobs with SIGINT ignored, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    demo = subprocess.Popen(
        [QUOTEGATE, "lab", "demo"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    lab = Lab(f"demo{demo.pid % 100000}")
    time.sleep(random.uniform(0.3, 6.0))
    demo.send_signal(how)
    demo.wait(30)
    if how is signal.SIGKILL and not (lab.run_dir / "monitor.pid").exists():
        run([QUOTEGATE, "lab", "down", "--lab", lab.name])  # killed before there was anybody to clean up
    wait_clean(lab)


def test_a_lab_killed_while_coming_up_is_cleared_by_down() -> None:
    lab = Lab(f"k{os.getpid()}")
    for _ in range(4):
        up = subprocess.Popen(
            [QUOTEGATE, "lab", "up", "--lab", lab.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(random.uniform(0.2, 2.0))
        up.kill()
        up.wait(10)
        run([QUOTEGATE, "lab", "down", "--lab", lab.name])
        wait_clean(lab)


def test_a_killed_monitor_is_cleared_by_the_next_up() -> None:
    lab = Lab(f"m{os.getpid()}")
    try:
        run([QUOTEGATE, "lab", "up", "--lab", lab.name])
        os.kill(int((lab.run_dir / "monitor.pid").read_text().split()[0]), signal.SIGKILL)
        run([QUOTEGATE, "lab", "up", "--lab", lab.name])
        assert ApiClient(api_socket(lab.name)).get("/v1/health")["healthy"]
    finally:
        run([QUOTEGATE, "lab", "down", "--lab", lab.name])
    wait_clean(lab)


def test_a_lab_that_runs_is_not_brought_up_again_unless_somebody_says_so() -> None:
    lab = Lab(f"again{os.getpid()}")
    try:
        said = run([QUOTEGATE, "lab", "up", "--lab", lab.name, "--peers", "2"])
        assert "2 of 2 peers have proved themselves" in said
        before = (lab.run_dir / MONITOR_PID).read_text()
        again = subprocess.run(
            [QUOTEGATE, "lab", "up", "--lab", lab.name], capture_output=True, text=True, check=False
        )
        assert (again.returncode, (lab.run_dir / MONITOR_PID).read_text()) == (1, before)
        assert "already-up" in again.stderr
        assert f"quotegate lab down --lab {lab.name}" in again.stderr
        run([QUOTEGATE, "lab", "up", "--lab", lab.name, "--peers", "2", "--discard"])
        assert (lab.run_dir / MONITOR_PID).read_text() != before
    finally:
        run([QUOTEGATE, "lab", "down", "--lab", lab.name])


def test_two_labs_stand_side_by_side() -> None:
    labs = [Lab(f"a{os.getpid()}"), Lab(f"b{os.getpid()}")]
    try:
        for lab in labs:
            run([QUOTEGATE, "lab", "up", "--lab", lab.name, "--peers", "2"])
        run([QUOTEGATE, "lab", "down", "--lab", labs[0].name])
        assert len(ApiClient(api_socket(labs[1].name)).get("/v1/peers")["peers"]) == 2
    finally:
        for lab in labs:
            run([QUOTEGATE, "lab", "down", "--lab", lab.name])
    for lab in labs:
        wait_clean(lab)


def test_twenty_peers_of_a_policy_of_ones_own(tmp_path: Path) -> None:
    lab = Lab(f"v{os.getpid()}")
    pcrs = '4 = "ref:code", 7 = "ref:deployment", 9 = "ref:lab-peer-command", 10 = "ref:nothing-else-ran"'
    text = f"schema = 1\n[profile.mine]\npcrs = {{ sha256 = {{ {pcrs} }} }}\n"
    for number in range(20):
        place = f'port = "tap{number}", mac = "52:54:00:bb:00:{number:02x}", ip = "10.91.7.{number + 20}"'
        text += f'[peer.node-{number}]\nmatch = {{ {place} }}\nprofile = "mine"\ntags = ["all"]\n'
    text += '[[rule]]\nid = "ping"\nfrom = "tag:all"\nto = "any"\nservice = "icmp/echo"\naction = "allow"\nopen = "on-demand"\n'
    policy = tmp_path / "mine.toml"
    policy.write_text(text)
    try:
        run([QUOTEGATE, "lab", "up", "--lab", lab.name, "--policy", str(policy)])
        run([QUOTEGATE, "authority", "grant", "--lab", lab.name])
        api = ApiClient(api_socket(lab.name))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and {one["state"] for one in api.get("/v1/peers")["peers"]} != {
            "trusted"
        }:
            time.sleep(0.2)
        assert {one["state"] for one in api.get("/v1/peers")["peers"]} == {"trusted"}
        run(
            [
                QUOTEGATE,
                "lab",
                "exec",
                "--lab",
                lab.name,
                "node-3",
                "--",
                "ping",
                "-c",
                "2",
                "-W",
                "2",
                "10.91.7.39",
            ]
        )
    finally:
        run([QUOTEGATE, "lab", "down", "--lab", lab.name])
    wait_clean(lab)
