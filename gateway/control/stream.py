"""Read and write frames on a TCP connection before the handshake is done."""

import asyncio

from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.fields import Frame, FrameReader, FrameType, encode_frame


class FrameStream:
    """Frames over a stream; whoever hangs up early raises AttestationError `malformed-message`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames = FrameReader()
        self.received = 0  # bytes
        self._ready: list[Frame] = []

    async def receive(self) -> Frame:
        """Return the next frame."""
        while not self._ready:
            data = await self.reader.read(65536)
            if not data:
                raise AttestationError(
                    AttestationFailure.MALFORMED_MESSAGE, "the connection ended in the handshake"
                )
            self.received += len(data)
            self._ready.extend(self.frames.feed(data))
        return self._ready.pop(0)

    def send(self, kind: FrameType, body: bytes) -> None:
        """Send one frame."""
        self.writer.write(encode_frame(kind, body))

    def alert(self, code: str) -> None:
        """Tell the other end, in the clear, why it is refused; it must not trust this."""
        self.send(FrameType.ALERT, code.encode())
