"""Carry A's question "how much has arrived?" to B's agent, and B's answer back."""

import asyncio

from authn import messages
from filters.ruleset.names import INSPECTED_BIT
from gateway.audit.allowance import Allowance
from gateway.audit.recorder import Recorder
from gateway.clock import Clock
from gateway.events.model import Delivered
from gateway.inspection.desk import InspectorDesk
from gateway.registry.registry import PeerRecord, Registry
from gateway.sessions.book import MAX_SESSIONS_PER_PEER, Session

ANSWER_WITHIN_S = 2.0
REMEMBERED = 2 * MAX_SESSIONS_PER_PEER  # of one requester: all that live, and as many that ended
SINGLY, SINGLY_PER_S = 50.0, 2.0  # answers to one requester that go on record one by one; others are counted

UNKNOWN = "unknown"  # also of a session that is not the requester's


class Deliveries:
    """Questions under way. Sessions that ended are remembered a while: A asks after its flow is over."""

    def __init__(
        self, registry: Registry, recorder: Recorder, inspectors: InspectorDesk, clock: Clock
    ) -> None:
        self._registry, self._recorder, self._inspectors, self._clock = registry, recorder, inspectors, clock
        self._allowance = Allowance(SINGLY, SINGLY_PER_S)
        self._waiting: dict[tuple[str, int], asyncio.Future[messages.DeliveryReport]] = {}
        self._past: dict[str, dict[str, Session]] = {}  # by requester, the oldest first
        self._next = 0

    def remember(self, session: Session) -> None:
        """Keep a session that was granted, so that it can be asked about later."""
        past = self._past.setdefault(session.source, {})
        past.pop(session.session_id, None)  # one that was renewed is new
        past[session.session_id] = session
        while len(past) > REMEMBERED:
            past.pop(next(iter(past)))

    async def ask(self, peer: PeerRecord, query: messages.DeliveryQuery) -> None:
        """Answer A's question; whatever B can't confirm is `incomplete`."""
        session = self._past.get(peer.name, {}).get(query.session_id)
        if session is None:
            _tell(peer, query, 0, UNKNOWN, complete=False)
            return
        report = await self._ask_target(session, query)
        complete = report is not None and report.bytes_received >= query.bytes_sent
        received = report.bytes_received if report else 0
        state = report.state if report else "no answer"
        if self._allowance.permits(peer.name, self._clock.now()):
            await self._recorder.record(
                Delivered(
                    session.session_id,
                    session.source,
                    session.destination,
                    query.bytes_sent,
                    received,
                    complete,
                )
            )
        _tell(peer, query, received, state, complete=complete)

    def take_unrecorded(self) -> dict[str, int]:
        """Return how many answers to each requester went unrecorded since the last call: nobody may fill the disk with them."""
        return self._allowance.take_counts()

    async def _ask_target(
        self, session: Session, query: messages.DeliveryQuery
    ) -> messages.DeliveryReport | None:
        target = self._registry.by_name(session.destination)
        if target is None or target.link is None or not target.trusted:
            return None
        source_port = await self._port_seen(session, query.source_port)
        if source_port is None:
            return None
        self._next += 1
        key = target.name, self._next
        future: asyncio.Future[messages.DeliveryReport] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        target.link.send(
            messages.DeliveryQuery(self._next, session.session_id, source_port, query.bytes_sent)
        )
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(key, None)

    async def _port_seen(self, session: Session, port: int) -> int | None:
        """Return the port that B saw: of an inspected connection it is the inspector's choice."""
        if not session.lease_id & INSPECTED_BIT:
            return port
        key = session.key
        return await self._inspectors.far_port(
            (str(key.source), port), (str(key.destination), key.service.port)
        )

    def report(self, peer: PeerRecord, report: messages.DeliveryReport) -> None:
        """Take B's answer."""
        future = self._waiting.get((peer.name, report.query_id))
        if future is not None and not future.done():
            future.set_result(report)


def _tell(
    peer: PeerRecord, query: messages.DeliveryQuery, received: int, state: str, *, complete: bool
) -> None:
    if peer.link is not None:
        peer.link.send(messages.DeliveryReport(query.query_id, query.session_id, received, state, complete))
