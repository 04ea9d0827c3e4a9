"""An authenticated connection to one peer: seal what goes out, open what comes in."""

import asyncio
import contextlib
import time

from authn import messages
from authn.beacon import BeaconTracker
from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.fields import Frame, FrameReader, FrameType, encode_frame
from authn.handshake import EstablishedSession
from authn.profile import Profile
from gateway.control.limits import MESSAGES_AT_ONCE, MESSAGES_PER_S, Bucket

MAX_UNSENT = 1 << 20


class PeerLink:
    """One established session on its TCP connection. `proved` is what was demanded; `demanded_by` the policy that still demands that."""

    def __init__(
        self,
        session: EstablishedSession,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        frames: FrameReader,
        tracker: BeaconTracker,
        proved: Profile,
    ) -> None:
        self.session = session
        self.tracker = tracker
        self.proved, self.demanded_by = proved, ""
        self.closed = False
        self._reader, self._writer, self._frames = reader, writer, frames
        self._ready: list[Frame] = []
        self._budget = Bucket.full(MESSAGES_AT_ONCE, MESSAGES_PER_S, time.monotonic())

    def send(self, message: messages.Message) -> None:
        """Seal and send a message; a peer that does not read is cut off."""
        if self.closed:
            return
        self._writer.write(encode_frame(FrameType.RECORD, self.session.send.seal(messages.encode(message))))
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT:
            self.close()

    async def receive(self) -> messages.Message | None:
        """Return the next message, None when the peer hung up; raises AttestationError on a bad record."""
        while not self._ready:
            data = b"" if self.closed else await self._read()
            if not data:
                return None
            self._ready.extend(self._frames.feed(data))
        frame = self._ready.pop(0)
        if frame.type is not FrameType.RECORD:
            raise AttestationError(
                AttestationFailure.MALFORMED_MESSAGE, f"a {frame.type.name} frame after the handshake"
            )
        if wait := self._budget.take(time.monotonic()):
            await asyncio.sleep(wait)  # its own answers wait behind its flood; nobody else does
        return messages.decode(self.session.receive.open(frame.body))

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(65536)
        except OSError:
            return b""

    def close(self) -> None:
        """Close the connection; safe to call again."""
        self.closed = True
        with contextlib.suppress(RuntimeError):  # the loop may be closing down already
            self._writer.close()
