"""The agent: keep a session with the gateway, answer its beacons, open sessions for local programs."""

import asyncio
import json
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from authn import labels, messages
from authn.beacon import GatewayWatch
from authn.errors import AttestationError, AuthnError
from authn.evidence import Counters, Quote
from authn.failure import REFUTES_THE_GATEWAY, AttestationFailure
from authn.fields import malformed
from authn.handshake import EstablishedSession
from authn.tpm import TpmIdentity
from authn.tpm_worker import TpmWorker
from gateway.agent.conversation import BUSY_TPM_WITHIN_S, Conversation, Refused
from gateway.agent.host_line import HostLine
from gateway.agent.offers import Offers
from gateway.agent.setup import AgentSetup
from gateway.agent.state import AgentState
from gateway.agent.tcp_diag import Connection
from gateway.agent.witness import Witness
from gateway.agent.words import shown
from gateway.errors import GatewayError
from gateway.rpc import RpcClient
from hostlink.reports import MAX_SEQUENCE

RETRY_S = 0.2
# the kernel alone would try ever more rarely, for two minutes: a gateway that is back would wait for us
CONNECT_WITHIN_S = 0.5
ANSWER_WITHIN_S = 5.0
GATEWAY_SILENT_AFTER = 5
TESTIMONIES, WAITING_TESTIMONIES = 16, 256
ASKING = 64  # at one time: the gateway takes 500 messages a second, and our proofs wait behind local programs' questions
HEAD, HEAD_SIZE = "audit_head.json", 32
MONITOR_WITHIN_S = 60.0  # it may restart the gateway first
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Live:
    """A session that stands."""

    conversation: Conversation
    session: EstablishedSession
    watch: GatewayWatch
    answers: dict[int, asyncio.Future[messages.SessionResult | messages.DeliveryReport]] = field(
        default_factory=dict
    )
    testimonies: set[asyncio.Task[None]] = field(default_factory=set)
    witnessing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TESTIMONIES))
    asking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ASKING))


class Agent:
    """One peer's agent."""

    def __init__(self, setup: AgentSetup, worker: TpmWorker, witness: Witness) -> None:
        self.setup, self.worker, self.witness = setup, worker, witness
        self.state, self.detail = AgentState.STARTING, ""
        self.audit_head = _read_head(setup.state_dir / HEAD, setup.gateway_key.name.hex())
        self._head_saved, self._head_lost = True, False
        self._line = HostLine(setup.host_line) if setup.host_line else None
        self._live: Live | None = None
        self._offers = Offers()
        self._gateway_previous: Counters | None = None
        self._next_id = 0
        self._in_vain = False  # its TPM was approved, and no handshake came of it yet

    async def run(self) -> None:
        """Attest again and again until cancelled."""
        identity = await self.worker.run(lambda tpm: tpm.provision())
        self.witness.start()
        try:
            while True:
                if self._line is not None:
                    self._line.up(time.monotonic())
                await self._attempt(identity)
                await asyncio.sleep(RETRY_S)
        finally:
            self.witness.stop()

    async def _attempt(self, identity: TpmIdentity) -> None:
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                reader, writer = await asyncio.open_connection(self.setup.gateway_ip, self.setup.control_port)
        except OSError as error:
            self._set(
                AgentState.UNREACHABLE, f"the gateway does not answer: {error.strerror or 'nothing came'}"
            )
            await asyncio.sleep(RETRY_S)
            return
        conversation = Conversation(self.setup, self.worker, reader, writer)
        try:
            await self._converse(conversation, identity)
        except Refused as refusal:
            self._set(AgentState.REFUSED, refusal.code)
            if refusal.code == AttestationFailure.UNKNOWN_PEER:
                await self._enroll(identity)
        except AttestationError as error:
            self._set(AgentState.GATEWAY_REFUSED, f"{error.failure}: {error.message}")
            if error.failure in REFUTES_THE_GATEWAY:
                await self._report(error)
        except (OSError, TimeoutError, AuthnError) as error:
            self._set(AgentState.DISCONNECTED, str(error) or "the gateway fell silent")
        finally:
            if self._live is not None:
                for testimony in self._live.testimonies:
                    testimony.cancel()
            self._live = None
            conversation.hang_up()

    async def _enroll(self, identity: TpmIdentity) -> None:
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                reader, writer = await asyncio.open_connection(self.setup.gateway_ip, self.setup.control_port)
            conversation = Conversation(self.setup, self.worker, reader, writer)
            try:
                status = await conversation.enroll(identity)
            finally:
                conversation.hang_up()
            self._set(AgentState.ENROLLED if status == "approved" else AgentState.PENDING, status)
            if status == "approved" and self._in_vain:
                self._set(
                    AgentState.REFUSED,
                    f"{AttestationFailure.UNKNOWN_PEER}: approved, and not in the policy in force",
                )
            self._in_vain = status == "approved"
        except (OSError, TimeoutError, Refused, AuthnError) as error:
            self._set(AgentState.ENROLLMENT_FAILED, str(error) or "the gateway fell silent")
        if self.state is not AgentState.ENROLLED:
            await asyncio.sleep(1.0)

    async def _converse(self, conversation: Conversation, identity: TpmIdentity) -> None:
        self._set(AgentState.ATTESTING, "")
        session = await conversation.handshake(identity, self._gateway_previous)
        self._gateway_previous, self._in_vain = session.verified.counters, False
        live = self._live = Live(conversation, session, conversation.watch(session))
        self._remember_head(session.parameters.audit_sequence, session.parameters.audit_head)
        self._set(AgentState.ATTESTED, f"session {session.session_id}")
        # A gateway that died can't say so: its firewall lets nothing out. Missing beacons tell, and nothing else it sends
        # makes up for them: one that turned bad would keep back the beacon that is to prove it.
        patience = GATEWAY_SILENT_AFTER * session.parameters.beacon_interval_ms / 1000
        now = asyncio.get_running_loop().time
        silent_at = now() + patience
        while True:
            async with asyncio.timeout_at(silent_at):
                message = await conversation.receive_message(session)
            await self._handle(live, message)
            if isinstance(message, messages.Beacon):
                silent_at = now() + patience

    async def _handle(self, live: Live, message: messages.Message) -> None:
        match message:
            case messages.Beacon():
                await self._answer_beacon(live, message)
            case messages.SessionChallenge():
                label = labels.session(
                    message.nonce, live.session.epoch, live.session.exporter, message.request_id
                )
                quote = await self._quote(live, label)
                live.conversation.send_message(
                    live.session,
                    messages.SessionProof(message.request_id, quote, live.conversation.ima_list.more()),
                )
            case messages.SessionResult(request_id=number) | messages.DeliveryReport(query_id=number):
                future = live.answers.pop(number, None)
                if future is not None and not future.done():
                    future.set_result(message)
            case messages.SessionOffer():
                self._offers.note(message)
            case messages.DeliveryQuery():
                self._begin_testimony(live, message)
            case messages.SessionClosed():
                pass  # the kernel of the gateway has acted already; programs see their connection end

    async def _answer_beacon(self, live: Live, beacon: messages.Beacon) -> None:
        try:
            live.watch.receive(beacon)
        except AttestationError as error:
            live.conversation.send_message(
                live.session, messages.GatewayRefused(error.failure.value, error.message)
            )
            raise
        self._gateway_previous = live.watch.counters
        self._remember_head(beacon.audit_sequence, beacon.audit_head)
        label = labels.beacon(beacon.nonce, live.session.epoch, live.session.exporter)
        quote = await self._quote(live, label)
        challenge = os.urandom(messages.NONCE_SIZE)
        live.conversation.send_message(
            live.session,
            messages.BeaconAnswer(beacon.number, quote, challenge, live.conversation.ima_list.more()),
        )
        live.watch.answered(challenge)

    def _begin_testimony(self, live: Live, query: messages.DeliveryQuery) -> None:
        """Testify beside the beacons, which must not wait for it; who asks far too much at once gets no answer."""
        if len(live.testimonies) < WAITING_TESTIMONIES:
            task = asyncio.create_task(self._testify(live, query), name="testimony")
            live.testimonies.add(task)
            task.add_done_callback(live.testimonies.discard)

    async def _testify(self, live: Live, query: messages.DeliveryQuery) -> None:
        async with live.witnessing:
            await self._witness(live, query)

    async def _witness(self, live: Live, query: messages.DeliveryQuery) -> None:
        offered = self._offers.find(query.session_id)
        received, state = 0, "unknown"
        if offered is not None:
            connection = Connection(
                (live.conversation.own_ip, offered.port), (offered.from_ip, query.source_port)
            )
            received, state = await self.witness.received(connection, query.bytes_sent)
        complete = received >= query.bytes_sent
        report = messages.DeliveryReport(query.query_id, query.session_id, received, state, complete)
        live.conversation.send_message(live.session, report)

    async def _quote(self, live: Live, label: bytes) -> Quote:
        return await live.conversation.quote(self.setup.profile.selection, label, BUSY_TPM_WITHIN_S)

    async def open_session(self, peer: str, service: str) -> messages.SessionResult:
        """Ask the gateway for a session; raises GatewayError `not-attested`, `no-answer` or `bad-answer`."""
        number = self._number()
        answer = await self._ask(number, messages.SessionRequest(number, peer, service))
        if not isinstance(answer, messages.SessionResult):
            raise _wrong_kind(answer)
        return answer

    async def ask_delivery(self, session_id: str, source_port: int, sent: int) -> messages.DeliveryReport:
        """Ask how much of what was sent from this port has arrived; raises GatewayError."""
        number = self._number()
        answer = await self._ask(number, messages.DeliveryQuery(number, session_id, source_port, sent))
        if not isinstance(answer, messages.DeliveryReport):
            raise _wrong_kind(answer)
        return answer

    async def _ask(
        self, number: int, message: messages.SessionRequest | messages.DeliveryQuery
    ) -> messages.SessionResult | messages.DeliveryReport:
        live = self._live
        if live is None:
            raise GatewayError(
                "not-attested",
                f"this machine has no session with the gateway: {self.state} {self.detail}".strip(),
            )
        future: asyncio.Future[messages.SessionResult | messages.DeliveryReport] = (
            asyncio.get_running_loop().create_future()
        )
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S), live.asking:
                live.answers[number] = future
                live.conversation.send_message(live.session, message)
                return await future
        except TimeoutError:
            raise GatewayError(
                "no-answer", f"the gateway did not answer within {ANSWER_WITHIN_S:.0f} s"
            ) from None
        finally:
            live.answers.pop(number, None)

    def _number(self) -> int:
        self._next_id += 1
        return self._next_id

    def _set(self, state: AgentState, detail: str) -> None:
        self.state, self.detail = state, shown(detail)

    def _remember_head(self, sequence: int, head: bytes) -> None:
        """Keep the newest audit head this peer was told of, as a witness for `audit verify`; the host keeps it too."""
        if sequence > MAX_SEQUENCE:  # the host would not understand it, nor ever hear a later one
            raise malformed(
                f"the audit record's last number is {sequence}, at most {MAX_SEQUENCE} is possible"
            )
        if sequence > self.audit_head[0]:
            self.audit_head = (sequence, head)
            self._head_saved = False
        if not self._head_saved:
            self._save_head(*self.audit_head)
        if self._line is not None:
            self._line.head(*self.audit_head, time.monotonic())

    def _save_head(self, sequence: int, head: bytes) -> None:
        """Write the head; without room it is tried again with the next beacon: no session ends for a testimony."""
        path = self.setup.state_dir / HEAD
        text = json.dumps(
            {
                "source": self.setup.peer_id,
                "gateway": self.setup.gateway_key.name.hex(),
                "sequence": sequence,
                "hash": head.hex(),
                "time": time.time(),
            }
        )
        temporary = path.with_suffix(".new")
        try:
            temporary.write_text(text)
            temporary.replace(path)
        except OSError as error:
            if not self._head_lost:
                _log.warning(
                    "%s: keeping the newest audit head: expected room for it, got: %s; it is tried again all the time",
                    path,
                    error.strerror,
                )
            self._head_lost = True
        else:
            self._head_saved, self._head_lost = True, False

    async def _report(self, error: AttestationError) -> None:
        """Tell the host's monitor that the gateway can't be trusted: over its socket, or over a line to it."""
        if self._line is not None:
            self._line.gateway_failed(error.failure)
        elif self.setup.monitor_socket is not None:
            await self._ask_monitor(self.setup.monitor_socket, error)
        else:
            return
        await asyncio.sleep(1.0)

    async def _ask_monitor(self, socket: Path, error: AttestationError) -> None:
        try:
            rpc = await RpcClient.connect(socket)
            try:
                async with asyncio.timeout(MONITOR_WITHIN_S):
                    await rpc.call(
                        "report_gateway_refused",
                        peer=self.setup.peer_id.rpartition("/")[2],
                        reason=error.failure.value,
                    )
            finally:
                rpc.close()
        except (GatewayError, TimeoutError) as refusal:
            says = (
                f"nothing within {MONITOR_WITHIN_S:.0f} s" if isinstance(refusal, TimeoutError) else refusal
            )
            self._set(
                AgentState.GATEWAY_REFUSED, f"{error.failure}: {error.message}; the monitor says: {says}"
            )


def _wrong_kind(answer: messages.SessionResult | messages.DeliveryReport) -> GatewayError:
    return GatewayError("bad-answer", f"the gateway answered another question, by a {type(answer).__name__}")


def _read_head(path: Path, gateway: str) -> tuple[int, bytes]:
    """Read the newest audit head that this gateway (its key's Name, hex) told before the last start: an older one never takes its place."""
    try:
        found = json.loads(path.read_text())
        sequence, head = int(found["sequence"]), bytes.fromhex(found["hash"])
        if found["gateway"] == gateway and len(head) == HEAD_SIZE:
            return sequence, head
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        pass
    return 0, bytes(HEAD_SIZE)
