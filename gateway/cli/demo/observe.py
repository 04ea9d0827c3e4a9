"""Machines that are namespaces: captures inside them, the kernel's sets, the TPMs' own PCRs."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gateway.cli.demo.capture import HEADERS, Capture
from gateway.cli.demo.pieces import Content
from gateway.cli.demo.stage import Pace, Said
from vmhost.commands import in_namespace, run
from vmhost.lab.setup import PROJECT
from vmhost.monitor.client import ask
from vmhost.names import Lab
from vmhost.spec import BEACON_INTERVAL_MS

PROGRAMS = "gateway.cli.demo.programs"
SLACK_S = 0.050
WITHIN_S = 10.0


def pace(interval_s: float) -> Pace:
    """Return the pace of namespaces: T + 50 ms, 2T + 50 ms."""
    return Pace(
        interval_s,
        bad_answer_s=interval_s + SLACK_S,
        silence_s=2 * interval_s + SLACK_S,
        chatter_ms=2,
        settle_s=0.3,
        packets=20,
        return_s=15.0,
        late=(0.6, 0.15),
    )


@dataclass(slots=True)
class Spawned:
    """A program in a namespace."""

    process: "subprocess.Popen[str]"

    def first_line(self) -> str:
        """Wait for its first line."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        return self.process.stdout.readline()

    def output(self) -> str:
        """Wait for its end, and return what it said."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        self.process.wait(WITHIN_S)
        return self.process.stdout.read().strip()

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(5)


@dataclass(slots=True)
class Observer:
    """The stage of namespaces (see `gateway.cli.demo.stage`)."""

    lab: Lab
    pace: Pace = field(default_factory=lambda: pace(BEACON_INTERVAL_MS / 1000))
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="qg-demo-")))
    _children: list["subprocess.Popen[str]"] = field(default_factory=list)

    def capture(self, peer: str, expression: str, length: int = HEADERS) -> Capture:
        """Capture inside a peer."""
        return Capture.start(self.lab.peer_namespace(peer), expression, self.directory, length=length)

    def kernel_set(self, name: str) -> list[object]:
        """Read a set or map of the gateway's table back from the kernel."""
        return elements(run(in_namespace(self.lab.gateway_namespace, LIST_TABLE)), name)

    def pcr(self, machine: str, index: int) -> str:
        """Read a PCR from the machine's TPM with tpm2-tools."""
        text = run(["tpm2_pcrread", "-T", f"swtpm:path={self.lab.tpm_socket(machine)}", f"sha256:{index}"])
        return text.rpartition("0x")[2].strip().lower()

    def boot_pcrs(self, values: dict[str, str]) -> dict[str, str]:
        """Choose all: nothing else is measured later."""
        return values

    def extend(self, machine: str, index: int, digest: str) -> None:
        """Extend a PCR behind its owner's back."""
        run(
            ["tpm2_pcrextend", "-T", f"swtpm:path={self.lab.tpm_socket(machine)}", f"{index}:sha256={digest}"]
        )

    def start(self, peer: str, *words: object) -> Spawned:
        """Start one of the small programs in a peer."""
        return Spawned(self.spawn(peer, *words))

    def spawn(self, peer: str, *words: object, stdin: IO[bytes] | None = None) -> "subprocess.Popen[str]":
        """Start one of the small programs in a peer, and return its process."""
        return self.spawn_module(peer, PROGRAMS, *words, stdin=stdin)

    def spawn_module(
        self, peer: str, module: str, *words: object, stdin: IO[bytes] | None = None
    ) -> "subprocess.Popen[str]":
        """Start a Python module as a program in a peer."""
        argv = [sys.executable, "-m", module, *map(str, words)]
        process = subprocess.Popen(
            in_namespace(self.lab.peer_namespace(peer), argv),
            stdout=subprocess.PIPE,
            stdin=stdin,
            text=True,
            cwd=PROJECT,
        )
        self._children.append(process)
        return process

    def run(self, peer: str, *words: object) -> str:
        """Run one of the small programs to its end and return what it said."""
        return self.start(peer, *words).output()

    def agent(self, peer: str, *words: str, content: Content | None = None) -> Said:
        """Run the agent's own command in a peer, as a user would."""
        agent = [str(PROJECT / ".venv/bin/quotegate-agent"), "--socket", self.agent_socket(peer), *words]
        done = subprocess.run(
            in_namespace(self.lab.peer_namespace(peer), agent),
            input=content.data() if content else b"",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
            check=False,
        )
        return Said(done.returncode, done.stdout.decode(errors="replace").strip())

    def agent_socket(self, peer: str) -> str:
        """Where the peer's agent listens."""
        return str(self.lab.agent_socket(peer))

    def agent_pid(self, peer: str) -> int:
        """The pid of the peer's agent."""
        return int(ask(self.lab, "status")["peers"][peer]["pids"][f"agent-{peer}"])

    def signal_agent(self, peer: str, name: str) -> None:
        """Send the peer's agent STOP or CONT."""
        os.kill(self.agent_pid(peer), signal.Signals[f"SIG{name}"])

    def heads(self) -> list[dict[str, Any]]:
        """Read what the peers remember of the audit record."""
        return [json.loads(one.read_text()) for one in self.lab.state_dir.glob("peers/*/audit_head.json")]

    def close(self) -> None:
        """End the programs and remove the captures."""
        for child in self._children:
            child.kill()
            child.wait(5)
        for file in self.directory.glob("*"):
            file.unlink()
        self.directory.rmdir()


LIST_TABLE = ("nft", "-j", "list", "table", "inet", "quotegate")


def elements(table: str, name: str) -> list[object]:
    """Find the elements of a set or map in what nft prints of a table (JSON)."""
    for entry in json.loads(table)["nftables"]:
        for kind in ("set", "map"):
            if entry.get(kind, {}).get("name") == name:
                return list(entry[kind].get("elem", []))
    return []
