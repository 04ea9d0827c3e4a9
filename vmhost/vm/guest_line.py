"""A guest with a line to its host: what it says (`hostlink.reports`) is read so slowly that it costs little, whatever it is.

Nothing is sent to it. What we don't read yet waits in the guest: QEMU takes no more from it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from hostlink.errors import LinkError
from hostlink.reports import MAX_LINE, Lines, Report
from vmhost.log import say
from vmhost.vm.guest import VmGuest

PACE_S = 0.1  # after each line, and after each piece of one
Heard = Callable[[str, Report | LinkError], Awaitable[None]]


class ReportingGuest(VmGuest):
    """One VM with a line to the host. `heard` takes its name and what it says; None: nobody listens."""

    heard: Heard | None = None

    def boot(self) -> None:
        """Start it, and listen to it; raises HostError."""
        super().boot()
        if self.heard is not None:
            self._wait(self._listen(self.heard))

    async def _listen(self, heard: Heard) -> None:
        await self._hang_up()
        self._line = asyncio.create_task(self._hear(heard), name=f"line of {self.name}")

    async def _hear(self, heard: Heard) -> None:
        async def one(said: Report | LinkError) -> None:
            await heard(self.name, said)

        try:
            socket = self.domain.spec.link_socket
            reader, writer = await asyncio.open_unix_connection(socket, limit=MAX_LINE)
            try:
                await listen(reader, one, lambda: asyncio.sleep(PACE_S))
            finally:
                writer.close()
        except OSError:
            pass  # the VM is over: the next one has a line of its own
        except Exception as error:  # noqa: BLE001 - the line's outer edge: a guest must not go unheard unnoticed
            say(f"VM {self.name}: its line is not read any more: {error!r}")


async def listen(
    reader: asyncio.StreamReader,
    heard: Callable[[Report | LinkError], Awaitable[None]],
    pause: Callable[[], Awaitable[None]],
) -> None:
    """Tell what is said until the line ends; `pause` sets the pace. Raises OSError."""
    lines = Lines()
    while untrusted := await reader.read(MAX_LINE):
        for said in lines.feed(untrusted):
            await heard(said)
            await pause()
        await pause()
