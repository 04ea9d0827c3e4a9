"""What `quotegate lab` does in guests that are virtual machines."""

import base64
import secrets
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from gateway.cli.output import answering
from gateway.errors import GatewayError
from vmhost.lab.tamper import Alteration, alter_machine
from vmhost.lab.vms import VmPaths
from vmhost.log import harmless
from vmhost.names import GATEWAY, Lab
from vmhost.vm.recovery import Done, run_in_guest

EXEC_WITHIN_S, TAMPER_WITHIN_S = 300.0, 60.0
MAX_INPUT, _PIECE = 64 << 10, 480  # a line of the guest's shell holds a thousand characters
FOREIGN = "/tmp/foreign"  # noqa: S108 - in the guest
# a program that no image holds: one of the image's own with a few bytes more
RUN_FOREIGN = f"cp /usr/bin/setpriv {FOREIGN} && echo $$ >>{FOREIGN} && {FOREIGN} --version"


def is_vm(lab: Lab, peer: str) -> bool:
    """Tell whether a peer is a virtual machine of this lab."""
    return VmPaths(lab, peer).directory.is_dir()


def exec_in_vm(lab: Lab, peer: str, command: Sequence[str]) -> int:
    """Run a command as the guest's root, over its second serial port; what it reads is sent there before."""
    given = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read(MAX_INPUT + 1)
    if len(given) > MAX_INPUT:
        raise GatewayError(
            "too-much-input",
            f"standard input: expected at most {MAX_INPUT >> 10} KiB for a virtual machine (it goes over a serial port), "
            "got more; have the guest fetch it over its network",
        )
    with _files(lab, peer, given) as name:
        wrapped = f"( {shlex.join(command)} ) <{name}.in 2>{name}.err"
        done = _run(lab, peer, ("sh", "-c", wrapped), EXEC_WITHIN_S)
        complaint = _run(lab, peer, ("cat", f"{name}.err"), TAMPER_WITHIN_S)
    _show(sys.stdout, done.output)
    _show(sys.stderr, complaint.output)
    return done.status


def _show(stream: TextIO, output: bytes) -> None:
    """Write what came from a guest: as it is to files and pipes, harmless to a terminal."""
    with answering():
        stream.buffer.writelines(harmless([output]) if stream.isatty() else [output])
        stream.flush()


@contextmanager
def _files(lab: Lab, peer: str, given: bytes) -> Iterator[str]:
    """Put standard input into a file of the guest, `….in`; what begins with the same name is removed again."""
    name = f"/tmp/.{secrets.token_hex(8)}"  # noqa: S108 - in the guest, where root alone has a shell
    pieces = [given[at : at + _PIECE] for at in range(0, len(given), _PIECE)] or [b""]
    for piece in pieces:
        text = base64.b64encode(piece).decode()
        _run(lab, peer, ("sh", "-c", f"echo {text} | base64 -d >>{name}.in"), TAMPER_WITHIN_S)
    try:
        yield name
    finally:
        _run(lab, peer, ("rm", "-f", f"{name}.in", f"{name}.err"), TAMPER_WITHIN_S)


def run_foreign_program(lab: Lab, peer: str) -> None:
    """Run a program in the guest that its image does not hold; raises GatewayError when it did not run."""
    if peer == GATEWAY:
        raise GatewayError(
            "tamper-failed",
            "the gateway's root is verified block by block and holds no list of programs: expected --with initrd or "
            "--with command-line; it shows at the gateway's next start",
        )
    done = _run(lab, peer, ("sh", "-c", RUN_FOREIGN), TAMPER_WITHIN_S)
    if done.status:
        raise GatewayError(
            "tamper-failed",
            f"{peer}: running a foreign program: {done.output.decode(errors='replace').strip()}",
        )


def alter_image(lab: Lab, peer: str, what: Alteration) -> None:
    """Change what a VM starts from; its next start measures it."""
    alter_machine(VmPaths(lab, peer), what)


def _run(lab: Lab, peer: str, command: Sequence[str], within_s: float) -> Done:
    return run_in_guest(VmPaths(lab, peer).run_dir / "recovery.sock", command, within_s)
