"""Labs for tests: each takes itself down when the test run ends, however it ends."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.client import ApiClient, api_socket
from vmhost.lab.defaults import default_spec
from vmhost.lab.setup import bring_up
from vmhost.lab.teardown import tear_down
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

    def cli(self, *words: str, data: bytes = b"", check: bool = True) -> "subprocess.CompletedProcess[bytes]":
        """Run the operator's command as a user would."""
        command = [QUOTEGATE, *words]
        at = 2 if words[0] in ("policy", "peer", "authority", "audit", "evidence", "lab") else 1
        command[at + 1 : at + 1] = ["--lab", self.lab.name]
        done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)
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
        raise AssertionError("it did not come about in time")

    def all_trusted(self) -> bool:
        return all(one["state"] == "trusted" for one in self.api.get("/v1/peers")["peers"])


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    if os.geteuid() != 0:
        pytest.skip("a lab needs root: network namespaces can't be made")
    spec = default_spec(Lab(f"t{os.getpid()}"))
    owner, ours = os.pipe()
    bring_up(spec, owner)
    running = RunningLab(spec, ApiClient(api_socket(spec.lab.name)))
    try:
        running.until(running.all_trusted)
        yield running
    finally:
        tear_down(spec.lab)
        os.close(ours)
        os.close(owner)
        assert namespaces_of(spec.lab) == []
        assert not spec.lab.run_dir.exists()
        assert not spec.lab.state_dir.exists()
