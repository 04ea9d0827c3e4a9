"""The host's own systemd starts a lab's machines, starts them again when their monitor is killed, and ends them with their state."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.client import ApiClient, api_socket
from tests.vm.conftest import IMAGES, VmLab
from tests.vmhost.lab.test_killed import leftovers, monitor_of
from vmhost.lab.defaults import vm_spec
from vmhost.lab.host_unit import RESUMES_WITHIN_S
from vmhost.lab.setup import PROJECT, bring_up
from vmhost.lab.teardown import tear_down
from vmhost.names import Lab

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]
SYSTEMD = "/lib/systemd/systemd"
# systemd refuses to run where the host was not booted with it, and tells that by this directory
START = f"mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec {SYSTEMD} --user --log-target=console"


class Systemd:
    """A manager of units that the test started, and nothing of the host's."""

    def __init__(self, directory: Path) -> None:
        self.units = directory / "config/systemd/user"
        self.units.mkdir(parents=True)
        self.environment = {
            **os.environ, "XDG_RUNTIME_DIR": str(directory), "XDG_CONFIG_HOME": str(directory / "config"),
        }  # fmt: skip

    def ask(self, *words: str, within_s: float = RESUMES_WITHIN_S) -> str:
        """Run systemctl; what it says."""
        done = subprocess.run(
            ["systemctl", "--user", *words], env=self.environment, capture_output=True, text=True, timeout=within_s,
            check=False,
        )  # fmt: skip
        return done.stdout + done.stderr


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    if not Path(SYSTEMD).exists():
        pytest.skip(f"{SYSTEMD} is missing: install systemd")
    with tempfile.TemporaryDirectory(prefix="qg-systemd-") as directory:
        one = Systemd(Path(directory))
        Path("/run/systemd").mkdir(exist_ok=True)
        with (
            Path(directory, "log").open("w") as log,
            subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", START], env=one.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            ) as process,
        ):  # fmt: skip
            try:
                until = time.monotonic() + 20
                while "Version=" not in one.ask("show", "--property=Version"):
                    assert process.poll() is None and time.monotonic() < until, Path(
                        directory, "log"
                    ).read_text()
                    time.sleep(0.1)
                yield one
            finally:
                one.ask("exit")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)
                process.kill()


def test_machines_start_with_the_host_and_again_when_their_monitor_is_killed(systemd: Systemd) -> None:
    lab = Lab(f"vu{os.getpid()}")
    spec, unit = vm_spec(lab, IMAGES), f"quotegate-{lab.name}.service"

    def is_active() -> bool:
        return "ActiveState=active\n" in systemd.ask("show", "--property=ActiveState", unit)

    bring_up(spec)
    try:
        one = VmLab(spec, ApiClient(api_socket(lab.name)))
        one.cli("authority", "grant")
        one.until(one.all_trusted)
        tear_down(lab, keep_state=True)
        printed = subprocess.run(
            [PROJECT / ".venv/bin/quotegate-host", "unit", "--lab", lab.name],
            capture_output=True,
            text=True,
            check=True,
        )
        (systemd.units / unit).write_text(printed.stdout)
        systemd.ask("daemon-reload")

        assert systemd.ask("start", unit) == ""
        one.until(one.all_trusted)
        first = monitor_of(lab)
        assert first is not None
        assert f"MainPID={first}\n" in systemd.ask("show", "--property=MainPID", unit)

        os.kill(first, signal.SIGKILL)
        one.until(lambda: monitor_of(lab) not in (None, first) and is_active())
        one.until(one.all_trusted)
        assert one.json("audit", "verify")["intact"]

        assert systemd.ask("stop", unit) == ""
        assert "ActiveState=inactive\n" in systemd.ask("show", "--property=ActiveState", unit)
        assert monitor_of(lab) is None
        assert not lab.run_dir.exists()
        assert lab.kept_dir.is_dir()
    finally:
        systemd.ask("stop", unit)
        systemd.ask(
            "kill", "--signal=KILL", unit
        )  # what a failed stop left; our own view of its namespaces ends none of that
        tear_down(lab)
        assert leftovers(lab) == []
