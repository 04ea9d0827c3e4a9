"""Machines that are virtual ones: captures at their ports on the host's bridge, programs over their second serial port."""

import json
import shlex
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from gateway.cli.demo.capture import HEADERS, Capture
from gateway.cli.demo.observe import LIST_TABLE, PROGRAMS, elements
from gateway.cli.demo.pieces import Content
from gateway.cli.demo.stage import Pace, Said
from gateway.errors import GatewayError
from vmhost.errors import HostError
from vmhost.lab.vms import VmPaths
from vmhost.names import GATEWAY
from vmhost.spec import LabSpec
from vmhost.vm.recovery import Done, run_in_guest

PYTHON = ("env", "PYTHONHOME=/usr", "PYTHONPATH=/usr/lib/quotegate", "python3.11", "-B", "-m")
WITHIN_S, KILL_WITHIN_S = 30.0, 5.0
SLACK_S = 0.5
LATER_PCR = 10  # what was run since the boot
_PCR_FILE = "/sys/class/tpm/tpm0/pcr-sha256/{}"
_AGENT_PID = (
    "for p in $(pidof python3.11); do grep -q gateway.agent.main.*run /proc/$p/cmdline && echo $p; done; true"
)
_NUMBERS = count(1)


def pace(interval_s: float) -> Pace:
    """Return the pace of VMs on an emulated processor (docs/vms.md says where the bounds come from)."""
    return Pace(
        interval_s,
        bad_answer_s=1.5 * interval_s + SLACK_S,
        silence_s=2 * interval_s + SLACK_S,
        chatter_ms=20,
        settle_s=1.0,
        packets=20,
        return_s=300.0,
        late=(0.6, 0.3),
    )


@dataclass(frozen=True, slots=True)
class GuestProgram:
    """A program in a VM: its process group there, and the file it writes to."""

    see: "VmObserver"
    peer: str
    group: int
    file: str

    def first_line(self) -> str:
        """Wait for its first line."""
        return self._wait(f"grep -q . {self.file}", f"head -n 1 {self.file}")

    def output(self) -> str:
        """Wait for its end, and return what it said."""
        return self._wait(f"[ -e {self.file}.end ]", f"cat {self.file}")

    def kill(self) -> None:
        """End it, and what it started; a machine that hangs or is over has ended it already."""
        with suppress(HostError):
            self.see.shell(self.peer, f"kill -9 -{self.group}; true", KILL_WITHIN_S)

    def _wait(self, condition: str, then: str) -> str:
        waited = int(WITHIN_S * 20)
        loop = f"n=0; until {condition} || [ $n -gt {waited} ]; do n=$((n + 1)); usleep 50000; done; {then}"
        return self.see.shell(self.peer, loop, 2 * WITHIN_S).output.decode(errors="replace").strip()


@dataclass(slots=True)
class VmObserver:
    """The stage of virtual machines (see `gateway.cli.demo.stage`)."""

    spec: LabSpec
    pace: Pace
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="qg-demo-")))

    def shell(self, machine: str, script: str, within_s: float = WITHIN_S) -> Done:
        """Run a shell's script in a machine; raises HostError when nothing answers."""
        port = VmPaths(self.spec.lab, machine).run_dir / "recovery.sock"
        return run_in_guest(port, ("sh", "-c", script), within_s)

    def ask(self, machine: str, script: str) -> str:
        """Run a shell's script in a machine, which has to go well; return what it said."""
        done = self.shell(machine, script)
        said = done.output.decode(errors="replace").strip()
        if done.status:
            raise GatewayError("guest-failed", f"{machine}: {script[:80]!r} ended with {done.status}: {said}")
        return said

    def capture(self, peer: str, expression: str, length: int = HEADERS) -> Capture:
        """Capture at a machine's port, from outside."""
        namespace, port = self.spec.lab.host_namespace, self.spec.machine(peer).port
        return Capture.start(namespace, expression, self.directory, port, length)

    def kernel_set(self, name: str) -> list[object]:
        """Read a set or map of the gateway's table back from its kernel."""
        return elements(self.ask(GATEWAY, shlex.join(LIST_TABLE)), name)

    def pcr(self, machine: str, index: int) -> str:
        """Read a PCR as the machine's own kernel has it from its TPM."""
        return self.ask(machine, f"cat {_PCR_FILE.format(index)}").lower()

    def boot_pcrs(self, values: dict[str, str]) -> dict[str, str]:
        """Leave out the one that grows with each program that is run."""
        return {index: value for index, value in values.items() if index != str(LATER_PCR)}

    def start(self, peer: str, *words: object) -> GuestProgram:
        """Start one of the small programs in a peer."""
        file = f"/tmp/demo.{next(_NUMBERS)}"  # noqa: S108 - in the guest
        inner = f"{_program(*words)} >{file} 2>&1; echo $? >{file}.end"
        group = self.ask(peer, f"setsid sh -c {shlex.quote(inner)} </dev/null >/dev/null 2>&1 & echo $!")
        return GuestProgram(self, peer, int(group), file)

    def run(self, peer: str, *words: object) -> str:
        """Run one of the small programs to its end and return what it said."""
        return self.shell(peer, _program(*words)).output.decode(errors="replace").strip()

    def agent(self, peer: str, *words: str, content: Content | None = None) -> Said:
        """Run the agent's own command in a peer, as a user would."""
        agent = shlex.join(("quotegate-agent", *words))
        script = agent if content is None else f"{_program('write', content.word())} 2>/dev/null | {agent}"
        done = self.shell(peer, script, 2 * WITHIN_S)
        return Said(done.status, done.output.decode(errors="replace").strip())

    def agent_socket(self, peer: str) -> str:
        """Where the peer's agent listens."""
        del peer
        return "/run/quotegate-agent/agent.sock"

    def agent_pid(self, peer: str) -> int:
        """The pid of the peer's agent, as the guest counts."""
        found = self.ask(peer, _AGENT_PID).split()
        if not found:
            raise GatewayError(
                "no-agent", f"{peer}: expected a running agent, found none; see /run/agent.log there"
            )
        return int(found[0])

    def signal_agent(self, peer: str, name: str) -> None:
        """Send the peer's agent STOP or CONT."""
        self.ask(peer, f"kill -{name} $({_AGENT_PID})")

    def heads(self) -> list[dict[str, Any]]:
        """Read what the peers remember of the audit record."""
        return [
            json.loads(self.ask(one.peer, "cat /var/lib/quotegate/audit_head.json"))
            for one in self.spec.peers
        ]

    def close(self) -> None:
        """Remove the captures; what runs in a machine ends with it."""
        for file in self.directory.glob("*"):
            file.unlink()
        self.directory.rmdir()


def _program(*words: object) -> str:
    return shlex.join((*PYTHON, PROGRAMS, *map(str, words)))
