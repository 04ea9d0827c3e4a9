"""Wait for a peer's proof over a nonce of one request. Pure bookkeeping; times in seconds."""

from dataclasses import dataclass
from enum import StrEnum


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

    def expect(self, peer: str, request_id: int, nonce: bytes, deadline: float) -> None:
        """Note a challenge."""
        self._pending[peer, request_id] = PendingProof(peer, request_id, nonce, deadline)

    def take(self, peer: str, request_id: int, now: float) -> PendingProof | None:
        """Return and forget the challenge that this answer belongs to; None when there is none in time."""
        pending = self._pending.pop((peer, request_id), None)
        return pending if pending is not None and now <= pending.deadline else None

    def forget(self, peer: str, request_id: int) -> None:
        """Drop a challenge whose request ended."""
        self._pending.pop((peer, request_id), None)
