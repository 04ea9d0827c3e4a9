"""Hold the sessions that were granted: which lease in the kernel belongs to whom. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from filters.flow import FlowKey, Service
from filters.ruleset.names import HANDED_BIT, INSPECTED_BIT

MAX_SESSIONS_PER_PEER = 256
MAX_LEASE_ID = (
    HANDED_BIT - 1
)  # the highest bit says that the lease's connections are inspected; the next is no lease's


@dataclass(frozen=True, slots=True)
class Session:
    """A's granted conversation with B. Times are seconds of CLOCK_BOOTTIME."""

    session_id: str
    lease_id: int
    source: str
    destination: str
    service: Service
    key: FlowKey
    rule: str
    granted_at: float
    expires_at: float


class SessionBook:
    """All live sessions, by id, by key and by peer. Lease ids go up and are not used again."""

    def __init__(self, first_lease_id: int = 1) -> None:
        self._sessions: dict[str, Session] = {}
        self._next_lease_id = first_lease_id

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions)

    def next_lease_id(self, *, inspected: bool = False) -> int:
        """Draw a fresh lease id; wraps after 2^30 - 1 draws and steps over ids still in force."""
        live = {session.lease_id & MAX_LEASE_ID for session in self._sessions.values()}
        while True:
            lease_id, self._next_lease_id = self._next_lease_id, self._next_lease_id % MAX_LEASE_ID + 1
            if lease_id not in live:
                return lease_id | (INSPECTED_BIT if inspected else 0)

    def add(self, session: Session) -> None:
        """Take up a granted session."""
        self._sessions[session.session_id] = session

    def get(self, session_id: str) -> Session | None:
        """Find a session by its id."""
        return self._sessions.get(session_id)

    def by_key(self, key: FlowKey) -> Session | None:
        """Find the session whose lease stands for this flow key."""
        return next((session for session in self._sessions.values() if session.key == key), None)

    def of_peer(self, peer: str) -> list[Session]:
        """List the sessions with this peer at either end."""
        return [s for s in self._sessions.values() if peer in (s.source, s.destination)]

    def full_for(self, peer: str) -> bool:
        """Tell whether this peer has as many sessions as one peer may open."""
        return sum(1 for s in self._sessions.values() if s.source == peer) >= MAX_SESSIONS_PER_PEER

    def remove(self, session_id: str) -> Session | None:
        """Forget a session."""
        return self._sessions.pop(session_id, None)

    def expired(self, now: float) -> list[Session]:
        """List the sessions whose lease ran out."""
        return [session for session in self._sessions.values() if session.expires_at <= now]
