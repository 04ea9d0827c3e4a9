"""Broker sessions in the patent's order: A asks, A proves itself, B proves itself, A is told.

Both proofs are quotes over nonces of this very request; only then is a lease put into the kernel, and
the grant is on record before that.
"""

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from authn import labels, messages
from authn.errors import AttestationError
from filters.errors import NetdError
from filters.flow import FlowKey, Service
from filters.policy.evaluator import Decision, Facts, PeerFacts, Request, evaluate
from filters.policy.model import Policy, Rule
from filters.reason import DropReason
from gateway.audit.allowance import Allowance
from gateway.audit.recorder import Recorder
from gateway.clock import Clock
from gateway.control.link import PeerLink
from gateway.events.model import SessionClosed, SessionGranted, SessionRefused
from gateway.kernel import Kernel
from gateway.registry.registry import PeerRecord, Registry
from gateway.sessions.book import Session, SessionBook
from gateway.sessions.proofs import ProofBook, Role
from gateway.trust.keeper import TrustKeeper

PROOF_DEADLINE_S = 1.0
OPENINGS = 8  # of one requester at a time: each makes its target sign
WAITING = 256  # of one requester that are not answered yet, those that are being opened among them
REFUSALS, REFUSALS_PER_S = 50.0, 2.0  # of one requester that go on record one by one; others are counted
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What A is told."""

    granted: bool
    reason: str
    detail: str
    session: Session | None = None


class SessionBroker:
    """Open, renew and close sessions."""

    def __init__(
        self,
        registry: Registry,
        kernel: Kernel,
        recorder: Recorder,
        clock: Clock,
        trust: Callable[[], TrustKeeper],
        policy: Callable[[], Policy],
        facts: Callable[[], Facts],
        first_lease_id: int,
    ) -> None:
        self.book = SessionBook(first_lease_id)
        self._registry, self._kernel, self._recorder, self._clock = registry, kernel, recorder, clock
        self._trust, self._policy, self._facts = trust, policy, facts
        self._proofs = ProofBook()
        self._waiting: dict[tuple[str, int], asyncio.Future[bool]] = {}
        self._opening: dict[FlowKey, asyncio.Task[Outcome]] = {}
        self._own_requests = 1 << 63
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._asking: Counter[str] = Counter()
        self._refusals = Allowance(REFUSALS, REFUSALS_PER_S)

    def decide(self, request: Request, *, session_open: bool | None = None) -> Decision:
        """Evaluate a request against the policy and what is true now."""
        return evaluate(self._policy(), request, replace(self._facts(), session_open=session_open))

    async def open(self, request: Request, request_id: int | None = None) -> Outcome:
        """Open a session; requests for the same flow at the same time share one opening."""
        source, destination = (
            self._registry.by_name(request.source),
            self._registry.by_name(request.destination),
        )
        if source is None or destination is None:
            name = request.destination if source else request.source
            return await self._refuse(request, DropReason.NO_RULE, f"there is no peer {name}", "")
        key = FlowKey(source.ip, destination.ip, request.service)
        task = self._opening.get(key)
        if task is None:
            if self._asking[request.source] >= WAITING:
                return await self._refuse(
                    request, DropReason.SESSION_LIMIT, "the peer asks for too many at once", ""
                )
            task = asyncio.get_running_loop().create_task(
                self._in_turn(request.source, self._open(request, key, source, destination, request_id))
            )
            self._opening[key] = task
            self._asking[request.source] += 1
            task.add_done_callback(lambda _: self._opened(request, key))
        return await asyncio.shield(task)

    async def _in_turn(self, source: str, opening: Coroutine[Any, Any, Outcome]) -> Outcome:
        async with self._slots.setdefault(source, asyncio.Semaphore(OPENINGS)):
            return await opening

    def _opened(self, request: Request, key: FlowKey) -> None:
        self._opening.pop(key, None)
        self._asking[request.source] -= 1

    async def _open(
        self,
        request: Request,
        key: FlowKey,
        source: PeerRecord,
        destination: PeerRecord,
        request_id: int | None,
    ) -> Outcome:
        decision = self.decide(request)
        rule = decision.rule
        if decision.reason is not None or rule is None:
            reason = decision.reason or DropReason.NO_RULE
            failing = next((one.detail for one in decision.conditions if not one.holds), "")
            return await self._refuse(request, reason, failing, rule.id if rule else "")
        if self.book.full_for(request.source) and self.book.by_key(key) is None:
            return await self._refuse(
                request, DropReason.SESSION_LIMIT, "the peer has too many sessions", rule.id
            )
        own_id = self._next_request_id() if request_id is None else request_id
        for peer, role, number in (
            (source, Role.REQUESTER, own_id),
            (destination, Role.TARGET, self._next_request_id()),
        ):
            other = destination if peer is source else source
            if not await self._prove(peer, role, number, other.name, str(request.service)):
                return await self._refuse(
                    request,
                    DropReason.NOT_ATTESTED,
                    f"{peer.name} did not prove itself to this request",
                    rule.id,
                )
        # The world may have changed while both were asked.
        again = self.decide(request)
        if again.reason is not None or again.rule is None:
            return await self._refuse(
                request, again.reason or DropReason.NO_RULE, "changed while the session was opening", rule.id
            )
        opened_by = "first-packet" if request_id is None else "request"
        would_deny = again.would_deny.id if again.would_deny else ""
        return await self._grant(request, key, again.rule, opened_by, would_deny)

    async def _prove(self, peer: PeerRecord, role: Role, request_id: int, other: str, service: str) -> bool:
        link = peer.link
        if link is None or not peer.trusted:
            return False
        nonce = secrets.token_bytes(messages.NONCE_SIZE)
        self._proofs.expect(peer.name, request_id, nonce, self._clock.now() + PROOF_DEADLINE_S)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[peer.name, request_id] = future
        link.send(messages.SessionChallenge(request_id, nonce, role, other, service))
        try:
            async with asyncio.timeout(PROOF_DEADLINE_S):
                return await future
        except TimeoutError:
            return False
        finally:
            self._waiting.pop((peer.name, request_id), None)
            self._proofs.forget(peer.name, request_id)

    async def proof(self, peer: PeerRecord, link: PeerLink, proof: messages.SessionProof) -> None:
        """Take a peer's proof; a wrong one fails the peer, a late one tells what it has run nevertheless."""
        pending = self._proofs.take(peer.name, proof.request_id, self._clock.now())
        if peer.link is not link or peer.going_down:
            return
        if pending is None and not self._proofs.take_expired(peer.name, proof.request_id):
            return  # nobody asked
        session, tracker = link.session, link.tracker
        future = self._waiting.get((peer.name, proof.request_id))
        try:
            tracker.note_files(proof.list_extension)  # told once: the next quote has them
            if pending is None:
                return
            wanted = labels.session(pending.nonce, session.epoch, session.exporter, proof.request_id)
            tracker.verify(proof.quote, wanted)
        except AttestationError as error:
            if future is not None and not future.done():
                future.set_result(False)
            await self._trust().fail(peer, error)
            return
        if future is not None and not future.done():
            future.set_result(True)

    async def _grant(
        self, request: Request, key: FlowKey, rule: Rule, opened_by: str, would_deny: str
    ) -> Outcome:
        now, lease_ms = self._clock.now(), rule.lease_ms
        existing = self.book.by_key(key)
        session = existing or Session(
            secrets.token_hex(8),
            self.book.next_lease_id(inspected=rule.inspection is not None),
            request.source,
            request.destination,
            request.service,
            key,
            rule.id,
            now,
            0.0,
        )
        session = replace(session, rule=rule.id, expires_at=now + lease_ms / 1000)
        await self._recorder.record(_granted_event(session, lease_ms, opened_by, would_deny))
        now_decided = self.decide(request)
        changed = now_decided.reason
        if changed is None and now_decided.rule != rule:  # its lease and inspection are not this rule's
            changed = DropReason.NO_SESSION
        if existing is None and self.book.full_for(request.source):
            changed = DropReason.SESSION_LIMIT
        if changed is not None:
            why = "changed while the grant was being recorded"
            return await self._refuse(request, changed, why, rule.id, always=True)
        self.book.add(session)
        try:
            if existing is None:
                await self._kernel.grant(session.lease_id, key, lease_ms)
            else:
                await self._kernel.renew(session.lease_id, lease_ms)
        except NetdError as error:
            if existing is not None:  # the kernel still has its lease: nobody would take it back any more
                await self.close([session], DropReason.LEASE_EXPIRED)
            self.book.remove(session.session_id)
            return await self._refuse(request, DropReason.NO_SESSION, error.message, rule.id, always=True)
        self._tell_target(session)
        return Outcome(True, "", "", session)

    def _tell_target(self, session: Session) -> None:
        target = self._registry.by_name(session.destination)
        if target is not None and target.link is not None:
            target.link.send(
                messages.SessionOffer(
                    session.session_id, session.source, str(session.key.source), str(session.service)
                )
            )

    async def _refuse(
        self, request: Request, reason: DropReason, detail: str, rule: str, *, always: bool = False
    ) -> Outcome:
        """Refuse; on record unless there are too many. `always`: the record has a grant that this takes back."""
        if always or self._refusals.permits(request.source, self._clock.now()):
            await self._recorder.record(
                SessionRefused(
                    request.source, request.destination, str(request.service), reason, detail, rule
                )
            )
        return Outcome(False, reason, detail)

    def take_unrecorded(self) -> dict[str, int]:
        """Return how many refusals of each requester went unrecorded since the last call: nobody may fill the disk with them."""
        return self._refusals.take_counts()

    async def close(self, sessions: list[Session], reason: str) -> None:
        """End sessions: the kernel first, then everybody is told and it is recorded."""
        if not sessions:
            return
        await self._kernel.revoke([session.lease_id for session in sessions])
        for session in sessions:
            if self.book.remove(session.session_id) is None:
                continue
            self._recorder.note(
                SessionClosed(session.session_id, session.source, session.destination, reason)
            )
            for name in (session.source, session.destination):
                peer = self._registry.by_name(name)
                if peer is not None and peer.link is not None:
                    peer.link.send(messages.SessionClosed(session.session_id, reason))

    async def close_peer(self, peer: PeerRecord, reason: str) -> None:
        """End every session this peer takes part in."""
        await self.close(self.book.of_peer(peer.name), reason)

    async def expire(self) -> None:
        """Forget sessions whose lease the kernel has let run out."""
        await self.close(self.book.expired(self._clock.now()), DropReason.LEASE_EXPIRED)

    def _next_request_id(self) -> int:
        self._own_requests += 1
        return self._own_requests


def _granted_event(session: Session, lease_ms: int, opened_by: str, would_deny: str) -> SessionGranted:
    return SessionGranted(
        session.session_id,
        session.source,
        session.destination,
        str(session.key.source),
        str(session.key.destination),
        int(session.service.protocol),
        session.service.port,
        session.rule,
        lease_ms,
        opened_by,
        would_deny,
    )


def facts_of(registry: Registry, facts: Facts) -> Facts:
    """Add every peer's state to the facts."""
    return replace(facts, peers={peer.name: PeerFacts(peer.state, peer.reason) for peer in registry})


def parse_request(source: str, to: str, service: Service) -> Request:
    """Build the request of a peer; what stands before a `/`, as in a peer id, is not looked at. Raises ValueError."""
    name = to.rpartition("/")[2]
    if not _NAME.fullmatch(name):
        raise ValueError("expected the name of a peer: a-z, 0-9 and -, at most 32")
    return Request(source, name, service)
