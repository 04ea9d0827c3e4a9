"""quotegated: join the parts and run them. One part failing ends the service; netd then cuts everybody."""

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from pathlib import Path

from authn import messages
from authn.errors import AttestationError, AuthnError
from authn.failure import AttestationFailure
from authn.fields import malformed
from authn.handshake_gateway import GatewayConfig
from authn.handshake_messages import BatchQuote, SessionParameters
from authn.profile import Profile
from authn.public_area import AttestationKey
from filters.errors import FiltersError, NetdError, PolicyError
from filters.netd.client import NetdClient
from filters.netd.protocol import Disconnected, Drift, Dropped, Held, HoldDropped, Lost
from filters.policy.assignments import assignments_of
from filters.policy.evaluator import Facts
from filters.policy.services import parse_service
from filters.reason import DropReason
from gateway.audit.allowance import Allowance
from gateway.audit.recorder import Recorder
from gateway.audit.spool import AuditSpool
from gateway.authority.gate import AuthorityGate
from gateway.clock import SystemClock
from gateway.control.handshaking import Introduction
from gateway.control.link import PeerLink
from gateway.control.server import ControlServer
from gateway.daemon.authority_keeper import AuthorityKeeper
from gateway.daemon.deliveries import Deliveries
from gateway.daemon.documents import evidence_keeper, load_portmap, load_references, own_references
from gateway.daemon.drops import DropCollector, parse_packet
from gateway.daemon.record_keeper import RecordKeeper, netd_gone
from gateway.errors import GatewayError
from gateway.events.model import (
    ContentFound,
    DriftRepaired,
    EnrollmentChanged,
    EventsCounted,
    EventsLost,
    GatewayStarted,
    PeerStateChanged,
)
from gateway.inspection.desk import InspectorDesk, Recorded
from gateway.policy.changer import PolicyChanger
from gateway.policy.holder import PolicyHolder
from gateway.recovery.recovery import Recovery
from gateway.recovery.restarter import MonitorRestarter
from gateway.registry.registry import PeerRecord, Registry
from gateway.registry.states import PeerState, Trigger
from gateway.sessions.book import MAX_LEASE_ID
from gateway.sessions.broker import SessionBroker, facts_of, parse_request
from gateway.sessions.ends import SessionEnd
from gateway.setup import GatewaySetup
from gateway.store.store import Store
from gateway.tpmd.client import TpmClient
from gateway.trust.keeper import PROOF_EVERY, TrustKeeper

HOUSEKEEPING_S = 0.05
COUNTS_EVERY_S = 60.0  # rarely: each count is a record too
FINDINGS, FINDINGS_PER_S = 200.0, 0.5  # of one sender and reason that go on record one by one
# a peer comes and goes between these by beginning handshakes, as often as it likes
_TRYING = frozenset((PeerState.ENROLLED, PeerState.ATTESTING, PeerState.UNREACHABLE))
_log = logging.getLogger(__name__)


class Service:
    """All parts of one running gateway. Build with `open`, then `run`."""

    def __init__(self, setup: GatewaySetup, netd: NetdClient, tpm: TpmClient, key: AttestationKey) -> None:
        self.setup, self.netd, self.tpm, self.key = setup, netd, tpm, key
        self.clock = SystemClock()
        self.epoch = secrets.token_bytes(16)
        self.started_at = self.clock.now()
        self.portmap = load_portmap(setup)
        self.references = load_references(setup)
        self.store = Store(setup.state_dir / "state.db")
        self.spool = AuditSpool(setup.state_dir / "audit.db")
        self.evidence = evidence_keeper(setup)
        self.policy = PolicyHolder(
            setup.interface,
            setup.ip,
            setup.control_port,
            setup.beacon_interval_ms,
            [one.values.keys() for one in self.references],
            self.portmap.entries,
        )
        self.recorder = Recorder(
            self.spool, self.clock, setup.gateway_id, lambda: self.policy.policy.revision
        )
        self.record = RecordKeeper(self.recorder, tpm, netd, self.clock)
        self.registry = Registry(self.portmap.entries, self._state_changed)
        # lease ids stay apart from those of an earlier life: connections marked then may still live
        self.broker = SessionBroker(
            self.registry, netd, self.recorder, self.clock, lambda: self.trust, lambda: self.policy.policy, self.facts,
            first_lease_id=int(time.time() * 1000) % MAX_LEASE_ID + 1,
        )  # fmt: skip
        self.restarter = MonitorRestarter(setup.sockets.monitor)
        self.recovery = Recovery(
            self.registry, netd, self.store, self.recorder, self.restarter, self.clock, self.policy.on_fail,
            lambda name: name in self.policy.policy.peers, setup.return_within_s,
        )  # fmt: skip
        self.trust = TrustKeeper(
            self.registry, netd, self.store, self.recorder, self.clock, setup.beacon_interval_ms / 1000,
            self.policy.quote_age, self.broker.close_peer, self.recovery.begin,
        )  # fmt: skip
        gate = AuthorityGate(setup.administrator_keys)
        self.authority = AuthorityKeeper(
            gate, self.store, netd, self.recorder, self.clock, self.broker, _boot_id()
        )
        self.changer = PolicyChanger(
            self.policy, self.store.revisions, netd, self.recorder, self.clock, self._policy_changed
        )
        self.drops = DropCollector(frozenset(str(place.ip) for place in self.portmap.entries))
        self.inspectors = InspectorDesk(
            setup.inspector_uid, self._reported, self.clock.now, self.restarter.end_inspector
        )
        self._findings = Allowance(FINDINGS, FINDINGS_PER_S)
        self.deliveries = Deliveries(self.registry, self.recorder, self.inspectors, self.clock)
        self.started = asyncio.Event()  # only then may anybody change anything
        self.serving = asyncio.Event()  # the control API may answer: all, or what leads out of a full disk
        self._assigned, self._assigning = "", asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, setup: GatewaySetup) -> "Service":
        """Connect to netd and tpmd; raises GatewayError, NetdError, and has hung up then: netd takes one client."""
        async with AsyncExitStack() as undo:
            netd = await NetdClient.connect(setup.sockets.netd)
            undo.push_async_callback(netd.close)
            tpm = await TpmClient.connect(setup.sockets.tpmd)
            undo.callback(tpm.close)
            ak_public, ek_public = await tpm.identity()
            service = cls(setup, netd, tpm, AttestationKey.from_public(ak_public, ek_public))
            undo.pop_all()
            return service

    def facts(self) -> Facts:
        """Collect what is true now for the evaluator."""
        return facts_of(self.registry, Facts(self.authority.state()))

    async def run(self) -> None:
        """Start in the safe order (policy, authority, then peers) and run until something fails."""
        await self.record.wait_for_room(self.serving.set)
        await self.record.compare(first_start=self.store.revisions.current() is None)
        await self.recorder.record(GatewayStarted(self.epoch.hex()))
        await self.changer.start(self.setup.policy.read_text(), self.setup.policy.name)
        await self.authority.start()
        await self._restore_peers()
        self.started.set()
        self.serving.set()
        control = ControlServer(
            self._introduction(),
            self.registry,
            self.trust,
            self.recorder,
            self.evidence,
            self.setup.preapproved_eks,
            self._dispatch,
            self._beacons,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(control.serve(str(self.setup.ip), self.setup.control_port), name="control")
            group.create_task(self.inspectors.serve(self.setup.sockets.inspectors), name="inspectors")
            group.create_task(self.inspectors.watch(), name="inspectors' signs of life")
            group.create_task(self.recovery.expect_all("the gateway's start"), name="expected peers")
            group.create_task(self.recovery.wait_failed(), name="recoveries")
            group.create_task(self._kernel_events(), name="kernel events")
            group.create_task(self._housekeeping(), name="housekeeping")
            group.create_task(self.record.sign_heads(), name="audit heads")
            group.create_task(self.recorder.wait_failed(), name="recorder")

    def _introduction(self) -> Introduction:
        event_log = self.setup.event_log.read_bytes()
        config = GatewayConfig(
            self.setup.gateway_id, self.key.name, self.epoch, self.setup.gateway_profile.id, event_log
        )
        return Introduction(
            self.setup.platform, config, self.tpm, self.store, self.clock, self._parameters, self._demanded, self.policy.ek,
            lambda: self.references, tuple(path.read_bytes() for path in self.setup.ek_roots), own_references(self.setup),
        )  # fmt: skip

    def _demanded(self, peer: str) -> Profile:
        """Return what a peer has to prove; raises AttestationError for one that the policy does not have."""
        try:
            return self.policy.profile(peer)
        except PolicyError as error:
            raise AttestationError(
                AttestationFailure.UNKNOWN_PEER, f"{error.message}: add it, then: quotegate policy apply FILE"
            ) from error

    def _parameters(self) -> SessionParameters:
        sequence, head = self.spool.head
        return SessionParameters(self.setup.beacon_interval_ms, PROOF_EVERY, sequence, head)

    async def _restore_peers(self) -> None:
        """Take up who is enrolled and who is quarantined, and who is no more; nobody is trusted."""
        quarantined, held = self.store.quarantined(), (await self.netd.snapshot()).quarantined
        for peer in self.registry:
            identity = self.store.identity(peer.name)
            if identity is not None and identity.approved:
                self.registry.move(peer, Trigger.APPROVED)
            if peer.name in quarantined:
                self.registry.move(peer, Trigger.QUARANTINED, quarantined[peer.name])
                await self.netd.quarantine(peer.ip, True)
            elif peer.ip in held:  # netd has outlived us, and we ended while we released it
                await self.netd.quarantine(peer.ip, False)

    def _state_changed(self, peer: PeerRecord, before: PeerState, _trigger: str) -> None:
        event = PeerStateChanged(peer.name, before, peer.state, peer.reason, peer.detail)
        if _TRYING.issuperset((before, peer.state)):
            self.recorder.note_within(event, peer.name)
        else:
            self.recorder.note(event)

    def _reported(self, event: Recorded) -> None:
        """Record what an inspector reports, findings as far as who sent the content may have them one by one."""
        if isinstance(event, ContentFound):
            peer = self.registry.by_ip(IPv4Address(event.source_ip))
            whose = f"{event.reason} in what {peer.name if peer else 'nobody known'} sent"
            if not self._findings.permits(whose, self.clock.now()):
                return
        self.recorder.note(event)

    async def _beacons(self, peer: PeerRecord, link: PeerLink) -> None:
        """Send a beacon every T; a peer that does not read is simply not answered for."""
        interval = self.trust.interval
        while not link.closed:
            begun = self.clock.now()
            proof: BatchQuote | None = None
            try:
                if link.tracker.proof_due:
                    proof = await self.tpm.quote_beacon(link.tracker.proof_leaf())
                link.send(link.tracker.next_beacon(self.clock.now(), self.spool.head, proof))
            except (GatewayError, AuthnError) as error:  # who is asked no more must not seem to be silent
                _log.warning("%s can't be sent a beacon, so its session ends: %s", peer.name, error.message)
                link.close()
                return
            await asyncio.sleep(max(0.001, interval - (self.clock.now() - begun)))

    async def _dispatch(self, peer: PeerRecord, link: PeerLink, message: messages.Message) -> None:
        match message:
            case messages.BeaconAnswer():
                await self.trust.answer(peer, link, message)
            case messages.SessionProof():
                await self.broker.proof(peer, link, message)
            case messages.SessionRequest():
                self._spawn(self._request(peer, link, message), f"request of {peer.name}")
            case messages.DeliveryQuery():
                self._spawn(self.deliveries.ask(peer, message), f"delivery of {peer.name}")
            case messages.DeliveryReport():
                self.deliveries.report(peer, message)
            case messages.GatewayRefused():
                link.close()
            case _:
                raise malformed(f"a peer does not send {type(message).__name__}")

    async def _request(self, peer: PeerRecord, link: PeerLink, message: messages.SessionRequest) -> None:
        try:
            request = parse_request(peer.name, message.to, parse_service(message.service))
        except ValueError as error:
            link.send(
                messages.SessionResult(message.request_id, False, "", DropReason.NO_RULE, str(error), 0, "")
            )
            return
        outcome = await self.broker.open(request, message.request_id)
        session = outcome.session
        if session is None:
            link.send(
                messages.SessionResult(message.request_id, False, "", outcome.reason, outcome.detail, 0, "")
            )
            return
        self.deliveries.remember(session)
        lease_ms = int((session.expires_at - self.clock.now()) * 1000)
        link.send(
            messages.SessionResult(
                message.request_id,
                True,
                session.session_id,
                "",
                "",
                max(lease_ms, 0),
                str(session.key.destination),
            )
        )

    async def _kernel_events(self) -> None:
        while True:
            match await self.netd.events.get():
                case Held() as held:
                    self._spawn(self._open_held(held), "first packet")
                case Dropped(reason, packet):
                    self.drops.add(parse_packet(packet, reason))
                case HoldDropped():
                    pass  # the kernel's counter and the refusal's own record tell of it
                case Lost(what, count):
                    self.recorder.note(EventsLost(what, count))
                case Drift(detail, repaired):
                    self.recorder.note(DriftRepaired(detail, repaired))
                case Disconnected():
                    raise netd_gone()

    async def _open_held(self, held: Held) -> None:
        """Open the session that a first packet waits for."""
        source, destination = self.registry.by_ip(held.key.source), self.registry.by_ip(held.key.destination)
        if source is not None and destination is not None:
            outcome = await self.broker.open(parse_request(source.name, destination.name, held.key.service))
            if outcome.session is not None:
                self.deliveries.remember(outcome.session)
        try:
            await self.netd.release(held.hold_id)  # without a lease its sender is told why not
        except NetdError as error:
            if error.code != "no-such-hold":  # it timed out meanwhile: the sender repeats its packet
                raise

    async def _housekeeping(self) -> None:
        next_drops = next_counts = self.clock.now()
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self.store.check()
            self.trust.attend(self.tpm.waits)
            for peer in self.registry:
                if peer.name in self.policy.policy.peers:
                    await self.trust.watch_silence(peer)
                else:
                    self.trust.excuse(peer)
            await self.broker.expire()
            await self.authority.watch()
            await self.changer.watch()
            await self._demand_anew()
            await self._assign_inspectors()
            if self.clock.now() >= next_drops:
                next_drops = self.clock.now() + 1.0
                for event in self.drops.take(self.clock.now()):
                    self.recorder.note(event)
            if self.clock.now() >= next_counts:
                next_counts = self.clock.now() + COUNTS_EVERY_S
                self._note_counts()
                await self.record.watch_room()

    def note_rest(self) -> None:
        """Put on record, at the end, what was only counted so far."""
        for event in self.drops.take(self.clock.now(), last=True):
            self.recorder.note(event)
        self._note_counts()

    def _note_counts(self) -> None:
        """Put on record how much was not recorded one by one."""
        for name, count in self.broker.take_unrecorded().items():
            self.recorder.note(EventsCounted(f"refused session requests of {name}", count))
        for name, count in self.deliveries.take_unrecorded().items():
            self.recorder.note(EventsCounted(f"delivery questions of {name}", count))
        for what, count in self._findings.take_counts().items():
            self.recorder.note(EventsCounted(f"findings: {what}", count))
        self.recorder.note_counts()

    async def _demand_anew(self) -> None:
        """End sessions of peers that proved something else than the policy in force demands of them, or that it does not know."""
        policy = self.policy.policy
        for peer in self.registry:
            link = peer.link
            if link is None or link.demanded_by == policy.revision:
                continue
            known = policy.peers.get(peer.name)
            if known and self._has_ek(peer, known.ek) and link.proved == self.policy.profile(peer.name):
                link.demanded_by = policy.revision
            else:
                await self.trust.demand_anew(peer)
                if self.policy.policy is not policy:  # it changed meanwhile: all are compared again soon
                    return

    def _has_ek(self, peer: PeerRecord, wanted: str | None) -> bool:
        identity = self.store.identity(peer.name)
        return wanted is None or (identity is not None and identity.ek_fingerprint == wanted)

    async def _assign_inspectors(self) -> None:
        """Tell inspectors when another policy is in force. Until they know it, they end what it newly has inspected."""
        async with self._assigning:  # one after the other: what they are told last is the policy in force
            policy = self.policy.policy
            if policy.revision == self._assigned:
                return
            if any(rule.inspection is not None for rule in policy.rules) or self.inspectors.assigned:
                compiled = await asyncio.to_thread(self.policy.compile, policy)
                await self.inspectors.assign(assignments_of(policy, compiled))
            self._assigned = policy.revision

    async def approve(self, peer: PeerRecord, actor: str) -> None:
        """Approve a peer's enrollment at an operator's word, which is on record first. Raises GatewayError `unknown-peer`."""
        known = self.store.asked(peer.name)
        await self.recorder.record(
            EnrollmentChanged(peer.name, str(peer.ip), "approved", known.ek_fingerprint, f"by {actor}")
        )
        self.store.approve(
            peer.name, known.ek_fingerprint
        )  # unless it was forgotten meanwhile, and another asked
        if peer.state is PeerState.UNKNOWN:
            self.registry.move(peer, Trigger.APPROVED)

    async def _policy_changed(self, lease_ids: tuple[int, ...]) -> int:
        """Close the sessions whose leases another policy took away; inspectors know it when this returns."""
        before = {session.session_id for session in self.broker.book}
        await self._demand_anew()
        await self._assign_inspectors()
        sessions = [session for session in self.broker.book if session.lease_id in lease_ids]
        await self.broker.close(sessions, SessionEnd.POLICY_CHANGED)
        return sum(self.broker.book.get(one) is None for one in before)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_done)

    def _spawned_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # netd is gone, or nothing can be recorded: the service ends, and says why itself
        if isinstance(error, (GatewayError, FiltersError)):
            _log.warning("%s came to nothing: %s", task.get_name(), error.message)
        elif error is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{task.get_name()} failed", "exception": error, "task": task}
            )


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
