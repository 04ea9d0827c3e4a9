"""Have a machine join a running lab with what `quotegate guest issue` wrote: its README's own commands."""

import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.lab.conftest import QUOTEGATE, RunningLab
from vmhost.commands import in_namespace, run
from vmhost.lab.provisioning import LabPaths
from vmhost.monitor.client import ask

RULE = '\n[[rule]]\nid = "{name}-to-db"\nfrom = "{name}"\nto = "db"\nservice = "tcp/5432"\naction = "allow"\nlease = "5m"\n'


def cli(*words: object) -> str:
    done = subprocess.run([QUOTEGATE, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def vouch(image: str, uki: Path, root: Path, room: Path) -> tuple[Path, Path]:
    """Make an authority, and its reference set of an image; return both."""
    authority, references = room / "authority", room / "references.json"
    cli("image", "describe", image, "--uki", uki, "--root", root, "--out", room / "image")
    cli("guest", "authority", authority)
    key = authority / "signing.key"
    cli("image", "sign", image, "--key", key, "--version", 2, "--out", room / "image", "-o", references)
    return authority, references


def join(lab: RunningLab, issued: Path, name: str, ek: str) -> None:
    """Do what the README says on host and gateway; the machine's interface is at the host already."""
    steps = (issued / "README").read_text()
    for line in commands(steps, 1):
        run(in_namespace(lab.lab.host_namespace, ["sh", "-c", line]))
    for line in commands(steps, 2):
        run(["sh", "-c", line])
    others = [peer.peer for peer in lab.spec.peers]
    os.kill(ask(lab.lab, "status")["gateway"]["pids"]["quotegated"], signal.SIGKILL)
    lab.until(lambda: lab.peer(name)["state"] == "unknown")
    lab.until(lambda: all(lab.peer(one)["state"] == "trusted" for one in others))
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as policy:
        words = (LabPaths(lab.lab).gateway_dir / f"policy-{name}.toml").read_text()
        policy.write(f"{lab.spec.policy_text}\n{words}{RULE.format(name=name)}")
        policy.flush()
        lab.cli("policy", "apply", policy.name)
    lab.cli("peer", "enroll", name, "--ek", ek)


def commands(readme: str, number: int) -> list[str]:
    """What a step says to type."""
    step = re.split(r"(?m)^\d\. ", readme)[number]
    return re.findall(r"(?m)^   ((?:nft|sh|cp) .*)$", step)
