"""Act on what guests say on their lines. A guest is not believed: its word can cost others no more than a budget.

That the gateway failed is taken as in a lab of namespaces: within the budget that all guests share, the gateway is
restarted. An audit head is kept as that guest's testimony, for `quotegate audit verify` to compare; nothing follows from it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from subprocess import SubprocessError

from authn.errors import AuthnError
from authn.failure import REFUTES_THE_GATEWAY
from hostlink.errors import LinkError
from hostlink.reports import AuditHead, GatewayFailed, Report, Up
from vmhost.durable import write_durably
from vmhost.errors import HostError
from vmhost.monitor.budget import Budget
from vmhost.names import Lab

LOGGED, LOGGED_WITHIN_S = 5, 60.0
Refuse = Callable[[str, str], Awaitable[None]]
"""Takes a guest's name and the failed check; raises HostError when it may not restart the gateway."""


class GuestWords:
    """What all guests of a lab said. `alive` is told who says anything, and whether a gateway knows it, `now` is monotonic, `wall` the time of day, `log` takes a line."""

    def __init__(
        self,
        lab: Lab,
        alive: Callable[[str, bool], None],
        refuse: Refuse,
        now: Callable[[], float],
        wall: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        self._lab, self._alive, self._refuse = lab, alive, refuse
        self._now, self._wall, self._log = now, wall, log
        self._heads: dict[str, int] = {}
        self._reports: dict[str, asyncio.Task[None]] = {}
        self._logged: dict[str, Budget] = {}

    async def heard(self, guest: str, said: Report | LinkError) -> None:
        """Take what a guest said; a report is seen to beside it, so that no further one waits and comes too late."""
        if not isinstance(said, LinkError):
            self._alive(guest, isinstance(said, AuditHead))
        match said:
            case Up():
                self._tell(guest, "its agent runs")
            case AuditHead() if said.sequence > self._newest(guest):
                await self._keep(guest, said)
            case GatewayFailed(check) if check not in REFUTES_THE_GATEWAY:
                self._tell(guest, f"refused: expected a check that refutes a gateway, got {check}")
            case GatewayFailed(check) if guest not in self._reports:
                task = asyncio.create_task(self._report(guest, check), name=f"report of {guest}")
                self._reports[guest] = task
                task.add_done_callback(lambda _: self._reports.pop(guest, None))
            case LinkError():
                self._tell(guest, f"refused: {said.code}: {said.message}")

    def _newest(self, guest: str) -> int:
        """Return the number of the newest head that is kept of a guest, also from before this monitor's time; 0 without one."""
        if guest not in self._heads:
            try:
                self._heads[guest] = int(json.loads(head_file(self._lab, guest).read_text())["sequence"])
            except (OSError, ValueError, KeyError, TypeError):
                self._heads[guest] = 0
        return self._heads[guest]

    async def _report(self, guest: str, check: str) -> None:
        self._tell(guest, f"the gateway failed: {check}")
        try:
            await self._refuse(guest, check)
        except (HostError, AuthnError, OSError, SubprocessError) as error:
            self._tell(guest, f"the gateway is not restarted for its report: {error}")

    async def _keep(self, guest: str, head: AuditHead) -> None:
        """Keep the newest head: an older one would forget what the record must still hold."""
        testimony = {
            "source": f"{self._lab.name}/{guest}",
            "sequence": head.sequence,
            "hash": head.hash.hex(),
            "time": self._wall(),
        }
        try:
            await asyncio.to_thread(
                write_durably, head_file(self._lab, guest), json.dumps(testimony).encode()
            )
        except OSError as error:
            self._tell(guest, f"its audit head is not kept: {error}")
        else:
            self._heads[guest] = head.sequence

    def _tell(self, guest: str, what: str) -> None:
        """Log a line, a few in a minute: a guest must not fill the host's disk."""
        budget = self._logged.setdefault(guest, Budget(LOGGED, LOGGED_WITHIN_S))
        if budget.take(self._now()):
            self._log(f"VM {guest} on its line: {what}")


def head_file(lab: Lab, guest: str) -> Path:
    """Return where a guest's testimony is: where agents of a namespace lab leave their own."""
    return lab.state_dir / "peers" / guest / "audit_head.json"
