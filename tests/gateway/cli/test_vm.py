"""`quotegate lab exec` in a virtual machine, with a shell of this machine in the guest's place."""

import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.cli import vm
from gateway.errors import GatewayError
from vmhost.names import GATEWAY, Lab
from vmhost.vm.recovery import Done

LINE = 1000  # what the guest's shell takes


@pytest.fixture
def ran(monkeypatch) -> list[Sequence[str]]:
    """Run here what is meant for a guest; return the commands."""
    commands: list[Sequence[str]] = []

    def run(_lab: Lab, _peer: str, command: Sequence[str], _within_s: float) -> Done:
        commands.append(command)
        done = subprocess.run(command, capture_output=True, check=False)
        return Done(done.returncode, done.stdout + done.stderr)

    monkeypatch.setattr(vm, "_run", run)
    return commands


def given(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(
    "data", [b"", b"a line\n", bytes(range(256)) * 20], ids=["nothing", "a line", "5 KiB"]
)
def test_input_arrives_whole_and_nothing_is_left(monkeypatch, capfdbinary, ran, data: bytes) -> None:
    given(monkeypatch, data)
    command = ("sh", "-c", 'cat; echo "it\'s bad" >&2; exit 3')
    assert vm.exec_in_vm(Lab("mine"), "web", command) == 3
    said = capfdbinary.readouterr()
    assert (said.out, said.err) == (data, b"it's bad\n")
    assert all(len(" ".join(one)) < LINE for one in ran)
    name = ran[-1][-1].removesuffix(".err")
    assert not list(Path(name).parent.glob(f"{Path(name).name}*"))


def test_rejects_output_that_writes_to_the_operators_terminal(monkeypatch, capfdbinary, ran) -> None:
    given(monkeypatch, b"")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    vm.exec_in_vm(Lab("mine"), "web", ("sh", "-c", "printf 'up\\033[2J\\n'; printf '\\033[3J' >&2"))
    said = capfdbinary.readouterr()
    assert (said.out, said.err) == (b"up\\x1b[2J\n", b"\x1b[3J")


def test_rejects_more_input_than_a_serial_port_is_for(monkeypatch, ran) -> None:
    given(monkeypatch, bytes(vm.MAX_INPUT + 1))
    with pytest.raises(GatewayError) as refused:
        vm.exec_in_vm(Lab("mine"), "web", ("cat",))
    assert refused.value.code == "too-much-input"
    assert not ran


def test_rejects_foreign_program_in_the_gateway_that_would_show_nowhere(ran) -> None:
    with pytest.raises(GatewayError) as refused:
        vm.run_foreign_program(Lab("mine"), GATEWAY)
    assert refused.value.code == "tamper-failed"
    assert not ran
