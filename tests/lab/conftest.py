"""Labs for tests: each takes itself down when the test run ends, however it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.client import ApiClient, api_socket
from vmhost.commands import in_namespace
from vmhost.lab.defaults import default_spec
from vmhost.lab.provisioning import LabPaths
from vmhost.lab.setup import PROJECT, bring_up, last_lines
from vmhost.lab.teardown import tear_down
from vmhost.monitor.client import ask
from vmhost.names import Lab
from vmhost.spec import LabSpec
from vmhost.topology import namespaces_of

QUOTEGATE = str(Path(".venv/bin/quotegate").resolve())


@dataclass
class RunningLab:
    spec: LabSpec
    api: ApiClient

    @property
    def lab(self) -> Lab:
        return self.spec.lab

    def cli(
        self, *words: str, data: bytes = b"", check: bool = True, within_s: float = 60
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run the operator's command as a user would."""
        command = [QUOTEGATE, *words]
        at = (
            2
            if words[0]
            in (
                "policy",
                "peer",
                "session",
                "authority",
                "audit",
                "evidence",
                "fingerprint",
                "lab",
                "image",
                "update",
            )
            else 1
        )
        if words[0] != "fingerprint" and (words[0] != "evidence" or words[1] == "save"):
            command[at + 1 : at + 1] = ["--lab", self.lab.name]
        done = subprocess.run(command, input=data, capture_output=True, timeout=within_s, check=False)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.cli(*words, "--json").stdout)

    def peer(self, name: str) -> dict[str, Any]:
        return next(one for one in self.api.get("/v1/peers")["peers"] if one["name"] == name)

    def exec(self, peer: str, *argv: str, data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return self.cli("lab", "exec", peer, "--", *argv, data=data, check=False)

    def until(self, condition: Callable[[], object], within_s: float = 20.0) -> None:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except Exception:
                pass
            time.sleep(0.05)
        raise AssertionError(f"it did not come about in time\n{self.portrait()}")

    def portrait(self) -> str:
        """Say how the lab stands: what it says goes with it."""
        said = [self.cli(one, check=False).stdout.decode().splitlines()[-40:] for one in ("peers", "events")]
        return "\n".join([*said[0], *said[1], last_lines(self.lab)])

    def all_trusted(self) -> bool:
        return all(one["state"] == "trusted" for one in self.api.get("/v1/peers")["peers"])

    def setup(self, peer: str) -> str:
        """Where the peer's provisioning is."""
        return str(LabPaths(self.lab).peer_setup(peer))

    def start(self, peer: str, module: str, *words: object) -> "subprocess.Popen[str]":
        """Start a program of the tests in a peer, as its root."""
        argv = [sys.executable, "-m", module, *map(str, words)]
        return subprocess.Popen(
            in_namespace(self.lab.peer_namespace(peer), argv),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT,
        )  # fmt: skip

    def run(self, peer: str, module: str, *words: object, within_s: float = 30.0) -> list[dict[str, Any]]:
        """Run a program of the tests in a peer; return the lines of JSON it said."""
        process = self.start(peer, module, *words)
        try:
            output, errors = process.communicate(timeout=within_s)
        finally:
            process.kill()
        assert process.returncode == 0, errors + output
        return [json.loads(line) for line in output.splitlines()]

    def agent_pid(self, peer: str) -> int | None:
        return ask(self.lab, "status")["peers"][peer]["pids"].get(f"agent-{peer}")

    @contextlib.contextmanager
    def without_agent(self, peer: str) -> Iterator[None]:
        """End a peer's agent: another program takes its place. Afterwards the machine is its own again."""
        pid = self.agent_pid(peer)
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        self.until(lambda: self.agent_pid(peer) is None)
        try:
            yield
        finally:
            self.until(lambda: self.peer(peer)["state"] not in ("failed", "restarting"))
            if self.agent_pid(peer) is None:
                self.api.post(f"/v1/peers/{peer}/restart")
            self.until(lambda: self.peer(peer)["state"] == "trusted")

    def last_sequence(self) -> int:
        return int(self.api.get("/v1/status")["audit"]["sequence"])

    def failures(self, after: int) -> list[tuple[str, str, bool]]:
        """(peer, reason, attributable) of the attestations that failed after a number of the record."""
        return [
            (one["unmapped"]["peer"], one["unmapped"]["reason"], one["unmapped"]["attributable"])
            for one in self.events(after, "attestation-failed")
        ]

    def events(self, after: int, code: str) -> list[dict[str, Any]]:
        """Return the events of one kind after a number of the record."""
        found: list[dict[str, Any]] = []
        while batch := self.api.get(f"/v1/events?after={after}")["events"]:
            after = batch[-1]["metadata"]["sequence"]
            found += [one for one in batch if one["metadata"]["event_code"] == code]
        return found


@contextlib.contextmanager
def running(spec: LabSpec) -> Iterator[RunningLab]:
    """Bring a lab up, wait until everybody is trusted, take it down however that ends."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root: network namespaces can't be made")
    owner, ours = os.pipe()
    bring_up(spec, owner)
    lab = RunningLab(spec, ApiClient(api_socket(spec.lab.name)))
    try:
        lab.until(lambda: lab.all_trusted() and lab.json("status")["inspectors"] == spec.inspectors)
        yield lab
    finally:
        tear_down(spec.lab)
        os.close(ours)
        os.close(owner)
        assert namespaces_of(spec.lab) == []
        assert not spec.lab.run_dir.exists()
        assert not spec.lab.state_dir.exists()


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running(default_spec(Lab(f"t{os.getpid()}"))) as one:
        yield one
