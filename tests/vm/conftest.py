"""A lab of real virtual machines: gateway and guests boot the built images through firmware, each with a TPM."""

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from authn.pcr import HashAlg
from authn.reference import ReferenceSet
from gateway.cli.client import ApiClient, api_socket
from tests.lab.conftest import RunningLab
from vmhost.image.predict import predict
from vmhost.lab.defaults import vm_spec
from vmhost.lab.setup import PROJECT, bring_up
from vmhost.lab.teardown import tear_down
from vmhost.lab.vms import VmPaths
from vmhost.monitor.client import ask
from vmhost.names import GATEWAY, Lab
from vmhost.spec import LabSpec
from vmhost.topology import namespaces_of
from vmhost.vm.recovery import run_in_guest

IMAGES = PROJECT / "build" / "image"
# four times what it takes on an emulated processor
BOOT_S = 160.0
# how long a guest may take to return: twice what it takes, a test waits it out several times
RETURN_S = 60.0


@dataclass
class VmLab(RunningLab):
    """A running lab of VMs."""

    def inside(self, machine: str, script: str) -> str:
        """Run a shell script as a machine's root, over its second serial port."""
        port = VmPaths(self.lab, machine).run_dir / "recovery.sock"
        done = run_in_guest(port, ("sh", "-c", script), 60)
        assert done.status == 0, done.output.decode(errors="replace")
        return done.output.decode()

    def booted_pcrs(self, machine: str, indices: tuple[int, ...]) -> dict[int, str]:
        """Read what the kernel of a machine says its TPM holds."""
        lines = self.inside(machine, "cd /sys/class/tpm/tpm0/pcr-sha256 && grep . *").split()
        values = dict(line.lower().split(":") for line in lines)
        return {index: values[str(index)] for index in indices}

    def console(self, machine: str) -> str:
        """Return what a machine wrote to its console, this start and the one before."""
        log = VmPaths(self.lab, machine).run_dir / "console.log"
        before = log.with_suffix(".old")
        return (before.read_text(errors="replace") if before.exists() else "") + log.read_text(
            errors="replace"
        )

    def first_tpm(self, machine: str) -> Path:
        """Return a copy of what a machine's TPM kept at the lab's beginning."""
        return VmPaths(self.lab, machine).directory / "tpm.first"

    @contextlib.contextmanager
    def on_fail(self, words: str) -> Iterator[None]:
        """Have the policy say something else of guests that fail, for a while."""
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            try:
                file.write(with_on_fail(self.spec, words).policy_text)
                file.flush()
                self.cli("policy", "apply", file.name)
                yield
            finally:
                Path(file.name).write_text(self.spec.policy_text)
                self.cli("policy", "apply", file.name)

    def status_of(self, machine: str) -> dict[str, Any]:
        """Ask the monitor for a machine's processes."""
        status = ask(self.lab, "status")
        found: dict[str, Any] = status["gateway"] if machine == GATEWAY else status["peers"][machine]
        return found

    def until(self, condition: Any, within_s: float = BOOT_S) -> None:
        super().until(condition, within_s)


def predicted(image: str) -> dict[int, str]:
    """Compute an image's PCRs from its file."""
    events = predict((IMAGES / f"{image}.efi").read_bytes())
    values = ReferenceSet(0, 0, {str(index): one for index, one in events.items()})
    return {index: (values.value(str(index), HashAlg.SHA256) or b"").hex() for index in events}


def with_on_fail(spec: LabSpec, words: str) -> LabSpec:
    """Let the policy say something else of guests that fail."""
    changed = re.sub(r"(?m)^on_fail = .*$", f"on_fail = {{ {words} }}", spec.policy_text)
    assert changed != spec.policy_text
    return replace(spec, policy_text=changed)


@contextlib.contextmanager
def running_vms(name: str, change: Callable[[LabSpec], LabSpec] = lambda one: one) -> Iterator[VmLab]:
    """Bring up gateway, web and db; wait until all are trusted; nothing is left afterwards."""
    for image in ("gateway", "guest"):
        assert Path(IMAGES, f"{image}.efi").is_file(), "run `make image` first"
    lab = Lab(name)
    spec = change(vm_spec(lab, IMAGES))
    owner, ours = os.pipe()
    bring_up(spec, owner)
    one = VmLab(spec, ApiClient(api_socket(lab.name)))
    try:
        one.cli("authority", "grant")
        one.until(one.all_trusted)
        for machine in ("web", "db"):
            tpm = VmPaths(lab, machine).tpm_state
            subprocess.run(["cp", "-a", str(tpm), str(one.first_tpm(machine))], check=True)
        yield one
    finally:
        tear_down(lab)
        os.close(ours)
        os.close(owner)
        assert namespaces_of(lab) == []
        assert not lab.run_dir.exists()
        assert not lab.state_dir.exists()


@pytest.fixture(scope="session")
def vms() -> Iterator[VmLab]:
    # what one test restarts must not use up what another one needs
    patient = 'peer = "restart", max_restarts = 20, window = "15m", then = "quarantine"'
    with running_vms(
        f"v{os.getpid()}", lambda spec: with_on_fail(replace(spec, return_within_s=RETURN_S), patient)
    ) as one:
        yield one
