"""Tell inspectors what to inspect, and record what they find. An inspector that hangs up is nobody's loss but its flows'."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filters.errors import FiltersError
from filters.inspection.assignments import Assignment
from filters.netd.protocol import FrameReader, encode_frame
from filters.reason import DropReason
from gateway.errors import GatewayError
from gateway.events.model import ContentFound, InspectorSilent, MaterialTaken
from gateway.inspection.heartbeats import LOOK_EVERY_S, SILENT_S, Heartbeats
from gateway.inspection.report import Alive, Confined, FarPort, Report, Taken, parse_report
from gateway.rpc import peer_pid, peer_uid

ANSWER_WITHIN_S: Final = 1.0
END_WITHIN_S: Final = 5.0
Endpoint = tuple[str, int]
Recorded = ContentFound | MaterialTaken | InspectorSilent
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    """What an inspector said of itself, and who it is."""

    pid: int
    confined: tuple[str, ...] = ()
    material: MaterialTaken | None = None
    taken: int = 0  # the number of the assignments it inspects by


class InspectorDesk:
    """Serves inspectors of one uid. `found` counts what they ended, by reason."""

    def __init__(
        self,
        uid: int,
        record: Callable[[Recorded], None],
        now: Callable[[], float],
        end: Callable[[int], Awaitable[None]],
    ) -> None:
        """end: has whoever started it end the inspector of a pid; raises GatewayError."""
        self._uid, self._record, self._now, self._end = uid, record, now, end
        self._heartbeats: Heartbeats[asyncio.StreamWriter] = Heartbeats(now())
        self._assignments: list[Assignment] = []
        self._number = 0
        self._changed = asyncio.Event()  # something was taken, or somebody left
        self._inspectors: dict[asyncio.StreamWriter, _Known] = {}
        self._questions: dict[int, asyncio.Future[int]] = {}
        self._asked = 0
        self.found: Counter[DropReason] = Counter()

    @property
    def ready(self) -> int:
        """How many inspectors are here and know their material."""
        return sum(known.material is not None for known in self._inspectors.values())

    def describe(self) -> list[dict[str, object]]:
        """Tell of each inspector what confines it, and the operator's files it uses or can't."""
        return [
            {
                "confined": list(known.confined),
                "files": list(taken.files),
                "bad": list(taken.bad),
                "notes": list(taken.notes),
            }
            for known in self._inspectors.values()
            if (taken := known.material) is not None
        ]

    @property
    def assigned(self) -> bool:
        """Tell whether anything is to be inspected."""
        return bool(self._assignments)

    async def assign(self, assignments: list[Assignment]) -> None:
        """Tell everybody what is to be inspected from now on, and wait a while until they do."""
        self._assignments = assignments
        self._number += 1
        number = self._number
        for writer in self._inspectors:
            self._tell(writer)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                while any(known.taken < number for known in self._inspectors.values()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            _log.warning("an inspector does not say that it took the assignments of the new policy")

    async def far_port(self, client: Endpoint, server: Endpoint) -> int | None:
        """Ask which port the server of an inspected connection saw; None when no inspector knows."""
        self._asked += 1
        question = self._asked
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._questions[question] = answer
        for writer in self._inspectors:
            writer.write(encode_frame({"where": question, "client": client, "server": server}))
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._questions[question]

    async def serve(self, path: Path) -> None:
        """Serve until cancelled."""
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, path)
        path.chmod(0o666)  # who may be an inspector is decided by SO_PEERCRED
        async with server:
            await server.serve_forever()

    async def watch(self) -> None:
        """Have those ended for ever that give no sign of life."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for writer in self._heartbeats.silent(self._now()):
                await self._give_up(writer)

    async def _give_up(self, writer: asyncio.StreamWriter) -> None:
        """End one that is silent; should it wake up before that, it finds that we hung up, and ends by itself."""
        if not (known := self._inspectors.get(writer)):
            return  # it hung up meanwhile
        detail = f"no sign of life for {SILENT_S:.0f} s: it is ended, and another one started"
        self._record(InspectorSilent(known.pid, DropReason.INSPECTOR_DOWN, detail))
        writer.transport.abort()
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await self._end(known.pid)
        except (GatewayError, TimeoutError) as error:
            _log.warning("the inspector with pid %d is silent and could not be ended: %s", known.pid, error)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if (uid := peer_uid(writer)) != self._uid:
                _log.warning("refused: uid %d is no inspector", uid)
                return
            self._inspectors[writer] = _Known(peer_pid(writer))
            self._heartbeats.expect(writer, self._now())
            self._tell(writer)
            frames = FrameReader()
            while data := await reader.read(1 << 16):
                for message in frames.feed(data):
                    self._take(writer, parse_report(message))
        except (FiltersError, ConnectionError, TypeError, ValueError) as error:
            _log.warning("an inspector is dismissed: %s", error)
        finally:
            self._inspectors.pop(writer, None)
            self._heartbeats.forget(writer)
            self._changed.set()
            writer.close()

    def _take(self, writer: asyncio.StreamWriter, report: Report) -> None:
        match report:
            case Taken():
                self._inspectors[writer].taken = report.number
                self._changed.set()
            case FarPort():
                if (asked := self._questions.get(report.question)) and report.port and not asked.done():
                    asked.set_result(report.port)
            case Alive():
                self._heartbeats.beat(writer, self._now())
            case Confined():
                self._inspectors[writer].confined = report.by
            case MaterialTaken():
                self._inspectors[writer].material = report
                if report.files or report.bad:
                    self._record(report)
            case ContentFound():
                if (
                    report.cuts and report.protocol == socket.IPPROTO_TCP
                ):  # of datagrams netd counts each one that is dropped
                    self.found[DropReason(report.reason)] += 1
                self._record(report)

    def _tell(self, writer: asyncio.StreamWriter) -> None:
        listed = [one.to_json() for one in self._assignments]
        writer.write(encode_frame({"number": self._number, "assignments": listed}))
