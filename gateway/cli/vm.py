"""What `quotegate lab` does in guests that are virtual machines."""

import sys
from collections.abc import Sequence

from gateway.errors import GatewayError
from vmhost.lab.tamper import Alteration, alter_machine
from vmhost.lab.vms import VmPaths
from vmhost.names import Lab
from vmhost.vm.recovery import Done, run_in_guest

EXEC_WITHIN_S, TAMPER_WITHIN_S = 300.0, 60.0
FOREIGN = "/tmp/foreign"  # noqa: S108 - in the guest
# a program that no image holds: one of the image's own with a few bytes more
RUN_FOREIGN = f"cp /usr/bin/setpriv {FOREIGN} && echo $$ >>{FOREIGN} && {FOREIGN} --version"


def is_vm(lab: Lab, peer: str) -> bool:
    """Tell whether a peer is a virtual machine of this lab."""
    return VmPaths(lab, peer).directory.is_dir()


def exec_in_vm(lab: Lab, peer: str, command: Sequence[str]) -> int:
    """Run a command as the guest's root, over its second serial port; without standard input."""
    done = _run(lab, peer, command, EXEC_WITHIN_S)
    sys.stdout.buffer.write(done.output)
    sys.stdout.flush()
    return done.status


def run_foreign_program(lab: Lab, peer: str) -> None:
    """Run a program in the guest that its image does not hold; raises GatewayError when it did not run."""
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
