"""The unit that starts a lab's machines with the host, as systemd itself reads it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from vmhost.lab.host_unit import host_unit
from vmhost.lab.setup import VM_READY_WITHIN_S
from vmhost.names import Lab


def verified(text: str, directory: Path) -> str:
    """What systemd has to say against a unit."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing: install systemd")
    unit = directory / "quotegate-lab.service"
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return "".join(line for line in done.stderr.splitlines(keepends=True) if unit.name in line)


@pytest.mark.parametrize("name", ["project", "a project", "50%f"])
def test_systemd_finds_the_command_wherever_the_project_lies(tmp_path: Path, name: str) -> None:
    command = tmp_path / name / "quotegate"
    command.parent.mkdir()
    text = host_unit(Lab("lab"), command.parent, command)
    assert "not executable" in verified(text, tmp_path)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    assert verified(text, tmp_path) == ""


def test_a_start_may_take_as_long_as_resuming_does() -> None:
    lines = host_unit(Lab("lab-2"), Path("/p"), Path("/p/quotegate")).splitlines()
    assert 'ExecStart="/p/quotegate" lab resume --lab lab-2' in lines
    assert 'ExecStop="/p/quotegate" lab down --keep --lab lab-2' in lines
    assert "PIDFile=/run/quotegate/lab-2/monitor.pid" in lines
    (limit,) = [line for line in lines if line.startswith("TimeoutStartSec=")]
    assert int(limit.partition("=")[2]) > VM_READY_WITHIN_S
