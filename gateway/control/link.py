"""An authenticated connection to one peer: seal what goes out, open what comes in."""

import asyncio
import contextlib
import socket
import struct
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
PARTING_S = 1.0  # what was written last still reaches a peer that reads
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: the kernel too lets go of what was not taken


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
        """Close the connection; safe to call again. A peer that takes nothing more can't hold it for longer than PARTING_S."""
        if self.closed:
            return
        self.closed = True
        self._reader.feed_eof()  # whoever waits for a message need not wait for what is unsent
        hang_up(self._writer)


def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection; who takes nothing more can't hold it for longer than PARTING_S."""
    with contextlib.suppress(RuntimeError):  # the loop may be closing down already
        writer.close()
        if writer.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(PARTING_S, _let_go, writer.transport)


def _let_go(transport: asyncio.WriteTransport) -> None:
    if transport.get_write_buffer_size():
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()
