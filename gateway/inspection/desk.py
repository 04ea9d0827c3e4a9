"""Tell inspectors what to inspect, and record what they find. An inspector that hangs up is nobody's loss but its flows'."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from filters.errors import FiltersError
from filters.inspection.worker.assignments import Assignment
from filters.netd.protocol import FrameReader, encode_frame
from filters.policy.compiled import CompiledPolicy
from filters.policy.model import Policy
from filters.reason import DropReason
from gateway.events.model import ContentFound
from gateway.inspection.report import parse_report
from gateway.rpc import peer_uid

_log = logging.getLogger(__name__)


def assignments_of(policy: Policy, compiled: CompiledPolicy) -> list[Assignment]:
    """Return who inspects what under a policy."""
    specs = {rule.id: rule.inspection for rule in policy.rules}
    return [
        Assignment(str(one.source), str(one.destination), one.first, one.last, one.rule, spec)
        for one in compiled.allowed
        if one.inspected and (spec := specs[one.rule]) is not None
    ]


class InspectorDesk:
    """Serves inspectors of one uid. `found` counts what they ended, by reason."""

    def __init__(self, uid: int, record: Callable[[ContentFound], None]) -> None:
        self._uid, self._record = uid, record
        self._assignments: list[Assignment] = []
        self._number = 0
        self._inspectors: set[asyncio.StreamWriter] = set()
        self.found: Counter[DropReason] = Counter()

    @property
    def inspectors(self) -> int:
        """How many inspectors are here."""
        return len(self._inspectors)

    @property
    def assigned(self) -> bool:
        """Tell whether anything is to be inspected."""
        return bool(self._assignments)

    def assign(self, assignments: list[Assignment]) -> None:
        """Tell everybody what is to be inspected from now on."""
        self._assignments = assignments
        self._number += 1
        for writer in self._inspectors:
            self._tell(writer)

    async def serve(self, path: Path) -> None:
        """Serve until cancelled."""
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, path)
        path.chmod(0o666)  # who may be an inspector is decided by SO_PEERCRED
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if (uid := peer_uid(writer)) != self._uid:
                _log.warning("refused: uid %d is no inspector", uid)
                return
            self._inspectors.add(writer)
            self._tell(writer)
            frames = FrameReader()
            while data := await reader.read(1 << 16):
                for message in frames.feed(data):
                    if "finding" in message:
                        event = parse_report(message["finding"])
                        self.found[DropReason(event.reason)] += 1
                        self._record(event)
        except (FiltersError, ConnectionError, TypeError, ValueError) as error:
            _log.warning("an inspector is dismissed: %s", error)
        finally:
            self._inspectors.discard(writer)
            writer.close()

    def _tell(self, writer: asyncio.StreamWriter) -> None:
        listed = [one.to_json() for one in self._assignments]
        writer.write(encode_frame({"number": self._number, "assignments": listed}))
