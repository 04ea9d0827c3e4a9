"""Listen on the control port: identify the place, run the dialogue, then serve the peer's messages."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine

from authn import messages
from authn.errors import AttestationError, AuthnError
from authn.failure import NOT_THE_PEERS_FAULT, AttestationFailure
from authn.fields import Frame, FrameType
from filters.errors import FiltersError
from gateway.audit.recorder import Recorder
from gateway.control.handshaking import (
    DEADLINE_S,
    HandshakeDriver,
    Introduction,
    name_copy,
    place_of,
    run_enrollment,
)
from gateway.control.limits import PlaceLimits
from gateway.control.link import PeerLink, hang_up
from gateway.control.stream import FrameStream
from gateway.errors import GatewayError
from gateway.events.model import AttestationFailed, EnrollmentChanged, HandshakeCompleted
from gateway.evidence.keeper import EvidenceKeeper
from gateway.registry.registry import PeerRecord, Registry
from gateway.registry.states import PeerState, Trigger
from gateway.trust.keeper import TrustKeeper

Dispatch = Callable[[PeerRecord, PeerLink, messages.Message], Awaitable[None]]
Beacons = Callable[[PeerRecord, PeerLink], Coroutine[None, None, None]]


class ControlServer:
    """The control port. Garbage is charged to the place it came from and changes nothing of a named peer."""

    def __init__(
        self,
        introduction: Introduction,
        registry: Registry,
        trust: TrustKeeper,
        recorder: Recorder,
        evidence: EvidenceKeeper,
        preapproved: frozenset[str],
        dispatch: Dispatch,
        beacons: Beacons,
    ) -> None:
        self._intro, self._registry, self._trust = introduction, registry, trust
        self._recorder, self._evidence, self._preapproved = recorder, evidence, preapproved
        self._dispatch, self._beacons = dispatch, beacons
        self._limits = PlaceLimits()
        self._clock = introduction.clock

    async def serve(self, host: str, port: int) -> None:
        """Listen until cancelled."""
        server = await asyncio.start_server(self._connected, host, port, reuse_address=True)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            ip = place_of(writer.get_extra_info("peername"))
            record = self._registry.by_ip(ip)
            if record is None or record.going_down or not self._limits.admit(ip, self._clock.now()):
                return
            link = await self._introduce(record, FrameStream(reader, writer))
            if link is not None:
                await self._serve_link(record, link)
        except (OSError, GatewayError, FiltersError):
            # the connection broke, the peer was put in quarantine meanwhile, or netd is gone and the service about to end:
            # the kernel cuts by itself
            pass
        finally:
            hang_up(writer)

    async def _introduce(self, record: PeerRecord, stream: FrameStream) -> PeerLink | None:
        """Run enrollment or handshake within the deadline; None: nothing came of it."""
        failed = True
        try:
            async with asyncio.timeout(DEADLINE_S):
                first = await stream.receive()
                if first.type is FrameType.ENROLL_HELLO:
                    await self._enroll(record, stream, first)
                    failed = False
                    return None
                link = await self._handshake(record, stream, first)
                failed = link is None
                return link
        except TimeoutError:
            error = AttestationError(
                AttestationFailure.HANDSHAKE_TIMEOUT, f"not done within {DEADLINE_S:.0f} s"
            )
            self._refuse(record, stream, error)
            self._end_attesting(record, error.failure.value, error.message)
        except AttestationError as error:
            self._refuse(record, stream, error)
        except (AuthnError, GatewayError) as error:
            stream.alert(error.code)
            refused = EnrollmentChanged(record.name, str(record.ip), "refused", "", error.message)
            self._recorder.note_within(refused, f"{record.name}: {error.code}")
        finally:
            if failed:
                self._end_attesting(record)
            self._limits.done(record.ip, self._clock.now(), failed=failed, received=stream.received)
        return None

    def _end_attesting(self, record: PeerRecord, reason: str = "", detail: str = "") -> None:
        """Note that a handshake came to nothing, however it ended."""
        if record.state is PeerState.ATTESTING:
            self._registry.move(record, Trigger.HANDSHAKE_ENDED, reason, detail)

    async def _enroll(self, record: PeerRecord, stream: FrameStream, first: Frame) -> None:
        status, pinned = await run_enrollment(self._intro, stream, record, first, self._preapproved)
        identity = self._intro.store.identity(record.name)
        fingerprint = identity.ek_fingerprint if identity else ""
        changed = EnrollmentChanged(record.name, str(record.ip), status, fingerprint, "")
        if status == "approved" and record.state is PeerState.UNKNOWN:
            await self._recorder.record(changed)
            identity = self._intro.store.identity(
                record.name
            )  # it may have been forgotten or quarantined meanwhile
            if identity is not None and identity.approved and record.state is PeerState.UNKNOWN:
                self._registry.move(record, Trigger.APPROVED)
        elif pinned:
            await self._recorder.record(changed)
        else:  # it changes nothing, and can be asked for without end
            await self._recorder.record_within(changed, f"{record.name}: {status}")

    async def _handshake(self, record: PeerRecord, stream: FrameStream, first: Frame) -> PeerLink | None:
        begun = self._clock.now()
        driver = HandshakeDriver.begin(self._intro, stream, record)
        if record.state not in (PeerState.UNKNOWN, PeerState.QUARANTINED):
            self._registry.move(record, Trigger.HANDSHAKE_STARTED)
        try:
            session = await driver.run(first)
            self._trust.check_reboot(record, session.verified.counters)
        except AttestationError as error:
            await self._failed(record, stream, driver, error)
            return None
        finally:
            if record.state is PeerState.ATTESTING and driver.machine.peer is None:
                self._registry.move(record, Trigger.HANDSHAKE_ENDED)
        facts = driver.machine.peer
        if facts is None:
            return None
        tracker = self._trust.tracker(facts, session)
        link = PeerLink(session, stream.reader, stream.writer, stream.frames, tracker, facts.profile)
        pcrs = {str(index): value.hex() for index, value in session.pcr_values.items()}
        duration = (self._clock.now() - begun) * 1000
        await self._recorder.record(
            HandshakeCompleted(record.name, str(record.ip), session.session_id, pcrs, round(duration, 2))
        )
        await self._trust.admit(record, link, driver.sent_at)
        await self._keep_evidence(driver, None)
        return link

    async def _keep_evidence(self, driver: HandshakeDriver, failure: AttestationFailure | None) -> None:
        facts, signed = driver.machine.peer, driver.machine.signed
        identity = self._intro.store.identity(driver.record.name)
        if facts is not None and signed is not None and identity is not None:
            await self._evidence.keep(identity, facts, signed, self._clock.wall(), failure)

    async def _failed(
        self, record: PeerRecord, stream: FrameStream, driver: HandshakeDriver, error: AttestationError
    ) -> None:
        """Hold a failure against the peer only when its own key signed wrong content from its own place."""
        error = name_copy(error, record) if driver.machine.signed_by_peer else error
        stream.alert(error.code)
        blamed = driver.machine.signed_by_peer and error.failure not in NOT_THE_PEERS_FAULT
        reset_count = driver.machine.signed_reset_count
        if blamed and record.state not in (PeerState.FAILED, PeerState.QUARANTINED):
            await self._trust.fail(record, error, reset_count)
        else:
            if blamed:
                self._trust.block(record, reset_count)
            self._refuse(record, stream, error)
            excused = driver.machine.signed_by_peer and error.failure in NOT_THE_PEERS_FAULT
            if excused:
                record.excused_at = self._clock.now()
            if record.state is PeerState.ATTESTING or (excused and record.state is PeerState.RESTARTING):
                self._registry.move(record, Trigger.HANDSHAKE_ENDED, error.failure.value, error.message)
        await self._keep_evidence(driver, error.failure)

    def _refuse(self, record: PeerRecord, stream: FrameStream, error: AttestationError) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            stream.alert(error.code)
        refused = AttestationFailed(record.name, str(record.ip), error.failure.value, error.message, False)
        # by failure: what is cheap to cause hides no copied TPM behind a number
        self._recorder.note_within(refused, f"{record.name}: {error.failure.value}")

    async def _serve_link(self, record: PeerRecord, link: PeerLink) -> None:
        beacons = asyncio.create_task(self._beacons(record, link), name=f"beacons {record.name}")
        try:
            while (message := await link.receive()) is not None:
                await self._dispatch(record, link, message)
        except AttestationError as error:
            self._recorder.note(
                AttestationFailed(record.name, str(record.ip), error.failure.value, error.message, False)
            )
        finally:
            beacons.cancel()
            await self._trust.disconnected(record, link)
