"""One end of the line: connections that come to our sockets go to the other side's services, and the other way round."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path

from hostlink.errors import LinkError
from hostlink.frames import MAX_DATA, WINDOW, Decoder, Frame, Kind, credit_frame

MOST_CHANNELS = 256
MOST_UNREAD = 8 << 20  # bytes; all channels' frames together stay below it while the other end reads
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Service = Callable[[], Awaitable[Streams]]
"""Opens a connection to whatever the service is; raises OSError."""


class _Channel:
    """One connection on the line."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.incoming = bytearray()  # bounded by the window we granted, however small the frames are
        self.unread = 0
        self.closed = False  # by the other side
        self.changed = asyncio.Event()
        self.allowance = WINDOW
        self.may_send = asyncio.Event()

    async def take(self) -> bytes:
        """Wait for what came, and take all of it; b"" once it is over."""
        while not self.incoming and not self.closed:
            self.changed.clear()
            await self.changed.wait()
        data = bytes(self.incoming)
        self.incoming.clear()
        return data


class Endpoint:
    """One end. `first` is 0 at the host and 1 in the gateway; `services` are what the other side may open here."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: int,
        services: Mapping[str, Service],
    ) -> None:
        self._reader, self._writer, self._services = reader, writer, services
        self._next = first
        self._channels: dict[int, _Channel] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Carry until the line ends; raises LinkError then, with all connections closed."""
        decoder = Decoder()
        try:
            while data := await self._reader.read(1 << 16):
                for frame in decoder.feed(data):
                    self._take(frame)
                if self._writer.transport.get_write_buffer_size() > MOST_UNREAD:
                    await self._writer.drain()  # who does not read our answers is not asked for more
            raise LinkError("line-ended", "the other end of the line is gone")
        except OSError as error:  # it ended before it had read all that we said
            raise LinkError("line-ended", f"the line broke: {error.strerror or error}") from error
        finally:
            self._writer.close()  # from here on nobody is connected any more
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def serve(self, path: Path, service: str, mode: int, uids: frozenset[int]) -> None:
        """Listen at a unix socket for one service of the other side, for these uids only. Never returns; raises OSError."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if uid_of(writer) in uids:
                await self.connect(service, (reader, writer))
            else:
                writer.close()

        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(path))
            path.chmod(mode)  # before anybody can connect
            server = await asyncio.start_unix_server(connected, sock=listener)
        except BaseException:
            listener.close()
            raise
        async with server:
            await server.serve_forever()

    async def connect(self, service: str, streams: Streams) -> None:
        """Carry a connection to a service of the other side until it, or the line, is over."""
        if len(self._channels) >= MOST_CHANNELS or self._writer.is_closing():
            streams[1].close()
            return
        number, self._next = self._next, (self._next + 2) % (1 << 32)
        channel = self._channels[number] = _Channel(number)
        self._send(Frame(number, Kind.OPEN, service.encode("ascii")))
        await asyncio.wait({self._own(self._carry(channel, streams), f"channel to {service} over there")})
        streams[1].close()  # the line may have ended before it was carried at all

    def _own(self, work: Coroutine[None, None, None], name: str) -> "asyncio.Task[None]":
        """Start what ends with the line."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _take(self, frame: Frame) -> None:
        channel = self._channels.get(frame.channel)
        match frame.kind:
            case Kind.OPEN:
                self._opened(frame, channel)
            case Kind.DATA if channel is not None and not channel.closed:
                channel.unread += len(frame.data)
                if channel.unread > WINDOW:
                    raise LinkError(
                        "over-window", f"channel {frame.channel} sent more than {WINDOW} bytes ahead"
                    )
                channel.incoming += frame.data
                channel.changed.set()
            case Kind.CREDIT if channel is not None and not channel.closed:
                channel.allowance += frame.credit
                if channel.allowance > WINDOW:
                    raise LinkError("over-window", f"channel {frame.channel}: more was read than was sent")
                channel.may_send.set()
            case Kind.CLOSE if channel is not None:
                channel.closed = True
                channel.changed.set()
            case _:  # for a connection that is over, here or by the other side's own word
                pass

    def _opened(self, frame: Frame, known: _Channel | None) -> None:
        if known is not None or frame.channel % 2 == self._next % 2:
            raise LinkError("bad-frame", f"channel {frame.channel} is not the other side's to open")
        name = frame.data.decode("ascii", "replace")
        if name not in self._services or len(self._channels) >= MOST_CHANNELS:
            self._send(Frame(frame.channel, Kind.CLOSE))
            return
        channel = self._channels[frame.channel] = _Channel(frame.channel)
        self._own(self._answer(channel, self._services[name]), f"channel to {name}")

    async def _answer(self, channel: _Channel, service: Service) -> None:
        try:
            streams = await service()
        except OSError:  # not up yet, or no longer
            self._end(channel)
            return
        await self._carry(channel, streams)

    async def _carry(self, channel: _Channel, streams: Streams) -> None:
        """Carry both ways until either side ends: what is spoken here is requests and answers, none closes by halves."""
        reader, writer = streams
        outward = asyncio.create_task(self._outward(channel, reader))
        inward = asyncio.create_task(self._inward(channel, writer))
        try:
            await asyncio.wait({outward, inward}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (outward, inward):
                task.cancel()
            await asyncio.gather(outward, inward, return_exceptions=True)
            self._end(channel)
            writer.close()

    async def _outward(self, channel: _Channel, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(min(MAX_DATA, channel.allowance)):
            self._send(Frame(channel.number, Kind.DATA, data))
            channel.allowance -= len(data)
            await self._writer.drain()
            while channel.allowance <= 0:
                channel.may_send.clear()
                await channel.may_send.wait()

    async def _inward(self, channel: _Channel, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await channel.take():
                writer.write(data)
                await writer.drain()
                channel.unread -= len(data)
                self._send(credit_frame(channel.number, len(data)))

    def _end(self, channel: _Channel) -> None:
        if self._channels.pop(channel.number, None) is not None and not self._writer.is_closing():
            self._send(Frame(channel.number, Kind.CLOSE))

    def _send(self, frame: Frame) -> None:
        self._writer.write(frame.encode())


def uid_of(writer: asyncio.StreamWriter) -> int:
    """Tell who is at the other end of a unix socket (SO_PEERCRED)."""
    sock: socket.socket = writer.get_extra_info("socket")
    return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])
