"""What a guest may say to its host over its own serial port. Pure.

Each report is one line of ASCII, at most MAX_LINE bytes with its end, and has one way to be written. The host answers
nothing. Who speaks is told by the port, never by what is said.

- `up`: the agent runs.
- `gateway-failed CHECK`: the gateway did not prove itself; CHECK names the check that failed.
- `audit-head SEQUENCE HASH`: the newest head of the audit record that the guest was told of in an attested session:
  the number of its last record, and the chain's hash after it as 64 hex digits.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hostlink.errors import LinkError

MAX_LINE, MAX_SEQUENCE = 128, (1 << 63) - 1
_SHOWN = 60
_REFUSAL = re.compile(rb"gateway-failed ([a-z]{1,20}(?:-[a-z]{1,20}){0,4})")
_HEAD = re.compile(rb"audit-head ([1-9][0-9]{0,18}) ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Up:
    """The agent runs."""


@dataclass(frozen=True, slots=True)
class GatewayFailed:
    """The gateway did not prove itself to this guest."""

    check: str


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The newest head of the audit record that the guest was told of."""

    sequence: int
    hash: bytes


Report = Up | GatewayFailed | AuditHead


def encode(report: Report) -> bytes:
    """Write a report as it travels."""
    match report:
        case Up():
            return b"up\n"
        case GatewayFailed(check):
            return f"gateway-failed {check}\n".encode("ascii")
        case AuditHead(sequence, head):
            return f"audit-head {sequence} {head.hex()}\n".encode("ascii")


def parse_line(untrusted_line: bytes) -> Report:
    """Read one line, without its end; raises LinkError `bad-report`."""
    if untrusted_line == b"up":
        return Up()
    if found := _REFUSAL.fullmatch(untrusted_line):
        return GatewayFailed(found[1].decode("ascii"))
    found = _HEAD.fullmatch(untrusted_line)
    if found and int(found[1]) <= MAX_SEQUENCE:
        return AuditHead(int(found[1]), bytes.fromhex(found[2].decode("ascii")))
    raise LinkError(
        "bad-report",
        f"expected up, gateway-failed CHECK or audit-head SEQUENCE HASH, got {_shown(untrusted_line)}",
    )


class Lines:
    """Cut a stream into reports. What is none comes as the error it is: the line goes on behind it."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skipping = False  # in a line that is too long, until its end

    def feed(self, untrusted: bytes) -> Iterator[Report | LinkError]:
        """Take what came; yield what is whole now. Keeps at most MAX_LINE bytes."""
        *ended, rest = untrusted.split(b"\n")
        for one in ended:
            yield from self._add(one)
            if not self._skipping:
                yield _understood(bytes(self._rest))
            self._rest.clear()
            self._skipping = False
        yield from self._add(rest)

    def _add(self, piece: bytes) -> Iterator[LinkError]:
        if self._skipping:
            return
        self._rest += piece
        if len(self._rest) >= MAX_LINE:
            self._skipping = True
            yield LinkError(
                "bad-report",
                f"expected a line of less than {MAX_LINE} bytes, got {_shown(bytes(self._rest))}",
            )
            self._rest.clear()


def _understood(line: bytes) -> Report | LinkError:
    try:
        return parse_line(line)
    except LinkError as error:
        return error


def _shown(line: bytes) -> str:
    """Quote the beginning of a line: printable, whatever it is."""
    return repr(line[:_SHOWN])[1:] + ("…" if len(line) > _SHOWN else "")
