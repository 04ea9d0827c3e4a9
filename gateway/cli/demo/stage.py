"""What a scene needs of its machines, be they namespaces or virtual machines: run programs in them, look at them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gateway.cli.demo.capture import HEADERS, Capture
from gateway.cli.demo.pieces import Content


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast machines are, and the bounds that follow for a beacon interval of `interval_s`."""

    interval_s: float
    bad_answer_s: float  # from a change to the last packet, when the change shows in the next answer
    silence_s: float  # the same when no answer comes, or none in time
    chatter_ms: int  # between two packets of a flow
    settle_s: float  # how long a flow is watched before something happens to it
    packets: int  # which it brings at least
    return_s: float  # a restarted machine is trusted by then
    late: tuple[
        float, float
    ]  # of T: how long an answer is held back to be late, how long its agent runs then

    def delay(self) -> tuple[int, int]:
        """Return `late` in milliseconds."""
        held, runs = (round(part * self.interval_s * 1000) for part in self.late)
        return held, runs


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it wrote (standard output and errors)."""

    status: int
    text: str


class Program(Protocol):
    """A program that runs in a machine."""

    def first_line(self) -> str:
        """Wait for its first line."""

    def output(self) -> str:
        """Wait for its end, and return what it said."""

    def kill(self) -> None:
        """End it."""


class Stage(Protocol):
    """The machines, seen and moved without asking the gateway."""

    pace: Pace
    directory: Path

    def capture(self, peer: str, expression: str, length: int = HEADERS) -> Capture:
        """Capture what a peer sends and gets."""

    def kernel_set(self, name: str) -> list[object]:
        """Read a set or map of the gateway's table back from its kernel."""

    def pcr(self, machine: str, index: int) -> str:
        """Read a PCR (SHA-256, hex) from the machine's own TPM."""

    def boot_pcrs(self, values: dict[str, str]) -> dict[str, str]:
        """Choose those of a peer's PCRs that stay as the boot left them."""

    def start(self, peer: str, *words: object) -> Program:
        """Start one of the small programs in a peer."""

    def run(self, peer: str, *words: object) -> str:
        """Run one of the small programs to its end and return what it said."""

    def agent(self, peer: str, *words: str, content: Content | None = None) -> Said:
        """Run the agent's own command in a peer, as a user would; some content is its standard input."""

    def agent_socket(self, peer: str) -> str:
        """Where the peer's agent listens, as its programs see it."""

    def agent_pid(self, peer: str) -> int:
        """The pid of the peer's agent, as its programs see it."""

    def signal_agent(self, peer: str, name: str) -> None:
        """Send the peer's agent STOP or CONT."""

    def heads(self) -> list[dict[str, Any]]:
        """Read what the peers remember of the audit record."""

    def close(self) -> None:
        """End the programs and remove the captures."""
