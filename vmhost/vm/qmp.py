"""Speak to a QEMU over its monitor socket (QMP): greeting, commands with ids, events. Only what is used.

QEMU is not trusted: a guest may have taken it over. Messages are bounded, so are the events that are kept, and
each answer has its time.
"""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmhost.errors import HostError
from vmhost.log import shown

MAX_MESSAGE = 64 << 10
MAX_EVENTS = 256
MAX_TEXT = 200  # of QEMU's own words in a message of ours
ANSWER_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in QEMU."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command returned, or why it was refused (`error`, a QMP error class and its text)."""

    id: int | None
    value: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Greeting:
    """The first message of a QMP server."""

    version: str


def parse(line: bytes) -> Greeting | Event | Answer:
    """Read one message; raises HostError."""
    try:
        message = json.loads(line)
        match message:
            case {
                "QMP": {"version": {"qemu": {"major": int(major), "minor": int(minor), "micro": int(micro)}}}
            }:
                return Greeting(f"{major}.{minor}.{micro}")
            case {"event": str(name)}:
                data = message.get("data", {})
                return Event(name, data if isinstance(data, dict) else {})
            case {"error": {"class": str(kind), "desc": str(text)}}:
                return Answer(message.get("id"), error=shown(f"{kind}: {text}"[:MAX_TEXT]))
            case {"return": value, "id": int(number)}:
                return Answer(number, value)
    except (ValueError, RecursionError):
        pass
    raise HostError(
        "qmp-malformed",
        f"QMP: expected a greeting, an event or an answer with an id, got {line[:80]!r}; restart the VM",
    )


class Qmp:
    """A connection to one QEMU. When it is lost, whoever waits on it gets a HostError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._events: asyncio.Queue[Event | HostError] = asyncio.Queue()
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._last_id = 0
        self._lost: HostError | None = None
        self._task: asyncio.Task[None] | None = None
        self.version = ""
        self.events_dropped = 0

    @classmethod
    async def connect(cls, path: Path, within_s: float = ANSWER_WITHIN_S) -> "Qmp":
        """Connect and leave the negotiation behind; raises HostError."""
        try:
            async with asyncio.timeout(within_s):
                qmp = cls(*await asyncio.open_unix_connection(path, limit=MAX_MESSAGE))
                try:
                    await qmp._negotiate(within_s)
                except BaseException:
                    await qmp.close()
                    raise
                return qmp
        except (OSError, TimeoutError) as error:
            raise HostError(
                "qmp-unreachable",
                f"{path}: expected QEMU's greeting within {within_s:.0f} s, got {error or 'nothing'}; see QEMU's log",
            ) from error

    async def _negotiate(self, within_s: float) -> None:
        first = await self._next()
        if not isinstance(first, Greeting):
            got = repr(first)[:MAX_TEXT]
            raise HostError("qmp-malformed", f"QMP: expected a greeting first, got {got}; restart the VM")
        self.version = first.version
        self._task = asyncio.create_task(self._receive(), name="qmp")
        await self.execute("qmp_capabilities", within_s=within_s)

    async def execute(self, command: str, *, within_s: float = ANSWER_WITHIN_S) -> Any:
        """Run a command and return what it returns; raises HostError."""
        if self._lost is not None:
            raise self._lost
        self._last_id += 1
        number, answer = self._last_id, asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        try:
            async with asyncio.timeout(within_s):
                self._writer.write(json.dumps({"execute": command, "id": number}).encode() + b"\n")
                await self._writer.drain()
                found: Answer = await answer
        except TimeoutError:
            raise HostError(
                "qmp-timeout",
                f"QMP {command}: expected an answer within {within_s:.0f} s, got none; QEMU hangs: kill the VM",
            ) from None
        except OSError as error:
            raise self._fail(error) from error
        finally:
            self._pending.pop(number, None)
        if found.error is not None:
            raise HostError(
                "qmp-refused",
                f"QMP {command}: expected success, got {found.error}; check the VM's state with query-status",
            )
        return found.value

    async def query_status(self) -> str:
        """Ask for the run state: `running`, `paused`, `prelaunch`, `shutdown` and so on."""
        value = await self.execute("query-status")
        status = value.get("status") if isinstance(value, dict) else None
        return shown(status[:MAX_TEXT]) if isinstance(status, str) else ""

    async def cont(self) -> None:
        """Let the guest run."""
        await self.execute("cont")

    async def quit(self) -> None:
        """End QEMU at once."""
        await self.execute("quit")

    async def next_event(self) -> Event:
        """Return the next event; raises HostError once the connection is lost and all events are read."""
        event = await self._events.get()
        if isinstance(event, HostError):
            self._events.put_nowait(event)  # for the next one who asks
            raise event
        return event

    async def close(self) -> None:
        """Hang up; safe to call again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._fail("we hung up")
        self._writer.close()

    async def _receive(self) -> None:
        try:
            while True:
                message = await self._next()
                match message:
                    case Event():
                        self._keep(message)
                    case Answer(id=int(number)) if number in self._pending:
                        if not self._pending[number].done():
                            self._pending[number].set_result(message)
                    case Answer(id=None):
                        raise HostError(
                            "qmp-malformed", f"QMP: got an error without a command: {message.error}"
                        )
        except HostError as error:
            self._fail(error)

    def _keep(self, event: Event) -> None:
        if self._events.qsize() >= MAX_EVENTS:  # the guest can cause events faster than we read them
            self._events.get_nowait()
            self.events_dropped += 1
        self._events.put_nowait(event)

    async def _next(self) -> Greeting | Event | Answer:
        try:
            line = await self._reader.readline()
        except ValueError as error:
            raise HostError(
                "qmp-oversized",
                f"QMP: expected messages of at most {MAX_MESSAGE} bytes, got a longer one; restart the VM",
            ) from error
        except OSError as error:
            raise self._fail(error) from error
        if not line.endswith(b"\n"):
            raise self._fail("it hung up")
        return parse(line)

    def _fail(self, why: object) -> HostError:
        """Note that the connection is of no use any more, and tell all who wait."""
        if self._lost is None:
            self._lost = (
                why
                if isinstance(why, HostError)
                else HostError(
                    "qmp-lost", f"QMP: expected QEMU to stay connected, got: {why}; see QEMU's log"
                )
            )
            self._events.put_nowait(self._lost)
            for answer in self._pending.values():
                if not answer.done():
                    answer.set_exception(self._lost)
        return self._lost
