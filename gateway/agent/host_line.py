"""Tell the host what it must hear from its guest: a serial port, one way (`hostlink.reports` is what is said).

Nothing here waits or fails: while the host does not listen a report is lost, and told again when its time comes.
"""

import os
from pathlib import Path

from authn.failure import AttestationFailure
from hostlink.reports import AuditHead, GatewayFailed, Report, Up, encode

UP_EVERY_S = (
    60.0  # the host gives up on a guest that nobody has heard for five minutes (vmhost/monitor/newcomer.py)
)
HEAD_EVERY_S = 5.0  # the record grows all the time; a witness need not know its last second


class HostLine:
    """The guest's end of the line."""

    def __init__(self, port: Path) -> None:
        self._path = port
        self._port: int | None = (
            None  # opened when there is something to say; the kernel lets one process have it
        )
        self._next_up = 0.0
        self._told_head = 0
        self._next_head = 0.0

    def up(self, now: float) -> None:
        """Say that the agent runs, every minute until there is an audit head to tell: then a gateway knows us. `now` is monotonic."""
        if not self._told_head and now >= self._next_up and self._say(Up()):
            self._next_up = now + UP_EVERY_S

    def head(self, sequence: int, head: bytes, now: float) -> None:
        """Have the host keep the newest audit head too; told every few seconds when it has changed. `now` is monotonic."""
        if sequence == self._told_head or now < self._next_head:
            return
        if self._say(AuditHead(sequence, head)):
            self._told_head, self._next_head = sequence, now + HEAD_EVERY_S

    def gateway_failed(self, failure: AttestationFailure) -> None:
        """Say that the gateway can't be trusted."""
        self._say(GatewayFailed(failure.value))

    def _say(self, report: Report) -> bool:
        """Write a report; False when nobody takes it now."""
        line = encode(report)
        try:
            if self._port is None:
                self._port = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            return os.write(self._port, line) == len(line)
        except BlockingIOError:
            return False
        except OSError:
            if self._port is not None:
                os.close(self._port)
            self._port = None
            return False
