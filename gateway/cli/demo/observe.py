"""Observe independently of the gateway: captures inside peers, the kernel's sets, the TPMs' own PCRs."""

import json
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vmhost.commands import in_namespace, run
from vmhost.lab.setup import PROJECT
from vmhost.names import Lab

PROGRAMS = "gateway.cli.demo.programs"


@dataclass(slots=True)
class Capture:
    """A packet capture (tcpdump) in a namespace; `times` are seconds since the epoch."""

    process: "subprocess.Popen[bytes]"
    file: Path

    @classmethod
    def start(cls, namespace: str, expression: str, directory: Path) -> "Capture":
        """Start capturing what comes in or goes out on eth0, and wait until it does."""
        file = directory / f"{namespace}-{time.monotonic_ns()}.pcap"
        words = [
            "tcpdump",
            "-i",
            "eth0",
            "-n",
            "-U",
            "--immediate-mode",
            "-s",
            "96",
            "-w",
            str(file),
            "-Z",
            "root",
            expression,
        ]
        process = subprocess.Popen(
            in_namespace(namespace, words), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        while (line := process.stderr.readline()) and b"listening" not in line:
            pass
        return cls(process, file)

    def packets(self) -> list[tuple[float, bytes]]:
        """Return (time, packet from its IP header) of everything captured so far (pcap-savefile(5))."""
        data = self.file.read_bytes()
        found, at = [], 24
        while at + 16 <= len(data):
            seconds, micros, length, _ = struct.unpack_from("<IIII", data, at)
            if at + 16 + length > len(data):
                break
            found.append((seconds + micros / 1e6, data[at + 16 + 14 : at + 16 + length]))
            at += 16 + length
        return found

    def stop(self) -> list[tuple[float, bytes]]:
        """Stop and return what was captured."""
        time.sleep(0.05)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(5)
        packets = self.packets()
        self.file.unlink()
        return packets


@dataclass(slots=True)
class Observer:
    """Everything the demonstration looks at without asking the gateway."""

    lab: Lab
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="qg-demo-")))
    _children: list["subprocess.Popen[str]"] = field(default_factory=list)

    def capture(self, peer: str, expression: str) -> Capture:
        """Capture inside a peer."""
        return Capture.start(self.lab.peer_namespace(peer), expression, self.directory)

    def kernel_set(self, name: str) -> list[object]:
        """Read a set or map of the gateway's table back from the kernel."""
        argv = in_namespace(self.lab.gateway_namespace, ["nft", "-j", "list", "table", "inet", "quotegate"])
        for entry in json.loads(run(argv))["nftables"]:
            for kind in ("set", "map"):
                if entry.get(kind, {}).get("name") == name:
                    return list(entry[kind].get("elem", []))
        return []

    def pcr(self, machine: str, index: int) -> str:
        """Read a PCR from the machine's TPM with tpm2-tools."""
        text = run(["tpm2_pcrread", "-T", f"swtpm:path={self.lab.tpm_socket(machine)}", f"sha256:{index}"])
        return text.rpartition("0x")[2].strip().lower()

    def extend(self, machine: str, index: int, digest: str) -> None:
        """Extend a PCR behind its owner's back."""
        run(
            ["tpm2_pcrextend", "-T", f"swtpm:path={self.lab.tpm_socket(machine)}", f"{index}:sha256={digest}"]
        )

    def spawn(self, peer: str, *words: object, stdin: IO[bytes] | None = None) -> "subprocess.Popen[str]":
        """Start one of the small programs in a peer."""
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
        process = self.spawn(peer, *words)
        output, _ = process.communicate(timeout=10)
        return output.strip()

    def agent(self, peer: str, *words: str, data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run the agent's own command in a peer, as a user would."""
        agent = [
            str(PROJECT / ".venv/bin/quotegate-agent"),
            "--socket",
            str(self.lab.agent_socket(peer)),
            *words,
        ]
        return subprocess.run(
            in_namespace(self.lab.peer_namespace(peer), agent),
            input=data,
            capture_output=True,
            timeout=30,
            check=False,
        )

    def close(self) -> None:
        """End the programs and remove the captures."""
        for child in self._children:
            child.kill()
            child.wait(5)
        for file in self.directory.glob("*"):
            file.unlink()
        self.directory.rmdir()
