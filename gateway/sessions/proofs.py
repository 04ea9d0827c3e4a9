"""Wait for a peer's proof over a nonce of one request. Pure bookkeeping; times in seconds."""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

REMEMBERED = (
    1024  # of one peer's challenges that ran out: far more than it can be asked before it counts as silent
)


class Role(StrEnum):
    """Which end of the session a challenge goes to."""

    REQUESTER = "requester"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class PendingProof:
    """A challenge that was sent and not answered yet."""

    peer: str
    request_id: int
    nonce: bytes
    deadline: float


class ProofBook:
    """Each challenge can be answered once, by the peer it was sent to, before its deadline."""

    def __init__(self) -> None:
        self._pending: dict[tuple[str, int], PendingProof] = {}
        self._expired: dict[str, deque[int]] = {}

    def expect(self, peer: str, request_id: int, nonce: bytes, deadline: float) -> None:
        """Note a challenge."""
        self._pending[peer, request_id] = PendingProof(peer, request_id, nonce, deadline)

    def take(self, peer: str, request_id: int, now: float) -> PendingProof | None:
        """Return and forget the challenge that this answer belongs to; None when there is none in time."""
        pending = self._pending.get((peer, request_id))
        if pending is None or now > pending.deadline:
            self.forget(peer, request_id)
            return None
        return self._pending.pop((peer, request_id))

    def take_expired(self, peer: str, request_id: int) -> bool:
        """Tell whether this answers, for the first time, a challenge that ran out."""
        expired = self._expired.get(peer, ())
        if request_id not in expired:
            return False
        self._expired[peer].remove(request_id)
        return True

    def forget(self, peer: str, request_id: int) -> None:
        """Drop a challenge whose request ended; an answer may still be on its way."""
        if self._pending.pop((peer, request_id), None) is not None:
            self._expired.setdefault(peer, deque(maxlen=REMEMBERED)).append(request_id)
