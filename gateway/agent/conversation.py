"""Bring up one session with the gateway: enroll where needed, shake hands, return the sealed stream."""

import asyncio
import contextlib
import logging
import os
import time
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address

from authn import messages
from authn.beacon import GatewayWatch
from authn.enrollment import EnrollmentClient
from authn.errors import AttestationError, TpmError
from authn.evidence import Counters, Quote
from authn.failure import AttestationFailure
from authn.fields import Frame, FrameReader, FrameType, encode_frame, malformed
from authn.handshake import Command, Established, EstablishedSession, SendFrame, WantQuote
from authn.handshake_peer import PeerConfig, PeerHandshake
from authn.pcr import PcrSelection
from authn.reference import check_reference
from authn.signing import DocumentError
from authn.tpm import Tpm, TpmIdentity
from authn.tpm_worker import TpmWorker
from gateway.agent.ima_list import ImaList
from gateway.agent.setup import AgentSetup
from gateway.agent.words import shown

DEADLINE_S = 5.0
TPM_WITHIN_S = 4.0  # in a handshake: less than its deadline, who was silent has to show
# in a session: a hardware TPM that makes a key for somebody else is busy that long, and goes on then
BUSY_TPM_WITHIN_S = 20.0
MAX_UNSENT = 2 << 20  # two of the longest messages
PARTING_S = 1.0  # what was written last still reaches a gateway that reads
ENROLLED = frozenset({b"approved", b"pending"})
_log = logging.getLogger(__name__)


class Refused(Exception):
    """The gateway refused in the clear: told apart from evidence against the gateway."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Conversation:
    """One TCP connection to the gateway."""

    setup: AgentSetup
    worker: TpmWorker
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: FrameReader = field(default_factory=FrameReader)
    ready: list[Frame] = field(default_factory=list)
    ima_list: ImaList = field(init=False)
    brought: bool = False  # a reference set came: one is allowed

    def __post_init__(self) -> None:
        """Begin the list of measured files anew: every session sends it from its beginning."""
        self.ima_list = ImaList(self.setup.ima_list)

    @property
    def own_ip(self) -> IPv4Address:
        """The address that this machine has for the gateway, and for all that the gateway lets through to it."""
        return IPv4Address(self.writer.get_extra_info("sockname")[0])

    async def receive(self) -> Frame:
        """Return the next frame; raises Refused for an alert, ConnectionError at the end."""
        while not self.ready:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionResetError("the gateway hung up")
            self.ready.extend(self.frames.feed(data))
        frame = self.ready.pop(0)
        if frame.type is FrameType.ALERT:
            raise Refused(shown(frame.body[:64].decode("ascii", "replace")))  # from anybody
        return frame

    def send(self, kind: FrameType, body: bytes) -> None:
        """Send a frame."""
        self.writer.write(encode_frame(kind, body))

    async def enroll(self, identity: TpmIdentity) -> str:
        """Prove that AK and EK are in one TPM; return `approved` or `pending`."""
        certificate = self.setup.ek_certificate.read_bytes()
        client = EnrollmentClient(self.setup.peer_id, certificate, identity.ek_public, identity.ak_public)
        self.send(FrameType.ENROLL_HELLO, client.hello())
        async with asyncio.timeout(DEADLINE_S):
            challenge = await self.receive()
            if challenge.type is not FrameType.ENROLL_CHALLENGE:
                raise malformed(f"{challenge.type.name} came where e2 was due")
            proof = await self.worker.run(lambda tpm: client.proof(challenge.body, tpm.activate_credential))
            self.send(FrameType.ENROLL_PROOF, proof)
            result = await self.receive()
        if result.type is not FrameType.ENROLL_RESULT or result.body not in ENROLLED:
            raise malformed(f"{result.type.name} came where e4, approved or pending, was due")
        return result.body.decode("ascii")

    async def handshake(self, identity: TpmIdentity, previous: Counters | None) -> EstablishedSession:
        """Run the handshake; raises AttestationError when the gateway does not prove itself."""
        setup = self.setup
        config = PeerConfig(
            setup.peer_id,
            identity.ak_name,
            setup.profile.selection,
            setup.gateway_id,
            setup.gateway_key,
            setup.gateway_profile,
            lambda measured: check_reference(
                setup.gateway_profile, measured, setup.references.sets, time.time()
            ),
            previous,
            setup.event_log.read_bytes(),
            self.ima_list.whole,
        )
        machine = PeerHandshake(config, os.urandom)
        async with asyncio.timeout(DEADLINE_S):
            session = await self._carry_out(machine, machine.start())
            while session is None:
                frame = await self.receive()
                if frame.type is FrameType.REFERENCES and not self.brought:
                    self._take_references(frame.body)
                    continue
                session = await self._carry_out(machine, machine.receive(frame.type, frame.body))
        return session

    def _take_references(self, untrusted_set: bytes) -> None:
        """Take up what peers of an updated gateway judge it by. A set that is refused changes nothing."""
        self.brought = True
        try:
            self.setup.references.take(untrusted_set, time.time())
        except DocumentError as error:
            _log.warning("the gateway brought a reference set that is refused: %s", error.message)

    async def _carry_out(self, machine: PeerHandshake, commands: list[Command]) -> EstablishedSession | None:
        for command in commands:
            match command:
                case SendFrame(kind, body):
                    self.send(kind, body)
                case WantQuote(selection, data):
                    quote = await self.quote(selection, data, TPM_WITHIN_S)
                    return await self._carry_out(machine, machine.quote(quote))
                case Established(session):
                    return session
        return None

    async def quote(self, selection: PcrSelection, data: bytes, within_s: float) -> Quote:
        """Have this machine's TPM sign; raises TpmError, also for one that does not answer: that is not the gateway's silence."""
        try:
            async with asyncio.timeout(within_s):
                return await self.worker.run(partial(Tpm.quote, selection=selection, qualifying_data=data))
        except TimeoutError:
            raise TpmError(
                "tpm-silent",
                f"{self.setup.tpm}: asking this machine's TPM for a quote: expected one within {within_s:.0f} s, got none; "
                "it is asked again; if that stays so, restart the machine",
            ) from None

    def watch(self, session: EstablishedSession) -> GatewayWatch:
        """Make the watch over the gateway's later proofs."""
        return GatewayWatch(
            self.setup.gateway_key,
            self.setup.gateway_profile,
            session.pcr_values,
            session.verified.counters,
            session.exporter,
            session.parameters.proof_every,
        )

    def send_message(self, session: EstablishedSession, message: messages.Message) -> None:
        """Seal and send a message; a gateway that asks and does not read is left: nothing may pile up here."""
        self.send(FrameType.RECORD, session.send.seal(messages.encode(message)))
        if self.writer.transport.get_write_buffer_size() > MAX_UNSENT:
            self.reader.set_exception(ConnectionAbortedError("the gateway does not read what it asks for"))
            self.writer.transport.abort()

    def hang_up(self) -> None:
        """Close the connection; a gateway that takes nothing more can't hold it for longer than PARTING_S."""
        with contextlib.suppress(OSError, RuntimeError):  # the loop may be closing down already
            self.writer.close()
            if self.writer.transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(PARTING_S, self.writer.transport.abort)

    async def receive_message(self, session: EstablishedSession) -> messages.Message:
        """Receive and open a message."""
        frame = await self.receive()
        if frame.type is not FrameType.RECORD:
            raise AttestationError(
                AttestationFailure.MALFORMED_MESSAGE, f"a {frame.type.name} frame in the session"
            )
        return messages.decode(session.receive.open(frame.body))
