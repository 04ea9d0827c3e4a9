"""Carry one inspected connection: two legs, and between them only what the inspector released."""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

from filters.inspection.finding import Direction, Finding, LimitHit
from filters.inspection.objects.judge import Judge
from filters.inspection.stream import Job, StreamInspector, Verdict
from filters.inspection.worker.handing import Ask, hand_back
from filters.inspection.worker.memory import Memory
from filters.inspection.worker.sockets import SocketsLost
from filters.inspection.worker.splicing import Bypass
from filters.netd.verdicts import APART, HANDED
from filters.reason import DropReason

_log = logging.getLogger(__name__)
HIGH, LOW = 64 << 10, 16 << 10  # of what waits to be sent: above, nothing more is read
PAUSE_S: Final = 0.2  # nothing came for so long: what is held for what might follow is judged as it is
LAST_PACKETS_S: Final = 0.05  # those that were on their way to a socket still find one
GIVEN_UP: Final = frozenset({"http-body-incomplete", "coding-incomplete", "smtp-incomplete"})
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, unsent bytes are dropped
_IN_ORDER: Final = struct.pack("ii", 0, 0)

JudgeObject = Callable[[Job], Awaitable[list[Finding]]]


@dataclass(frozen=True, slots=True)
class Ends:
    """The connection as the guests see it."""

    client: tuple[str, int]
    server: tuple[str, int]

    @property
    def guests(self) -> tuple[str, str]:
        """The addresses of both."""
        return self.client[0], self.server[0]

    def sender(self, direction: Direction) -> str:
        """Return the address that a direction's bytes come from."""
        return self.guests[direction]


class Flow:
    """Two legs. `done` is set when both are gone; `tell` hears each finding, a cut one after the cut."""

    def __init__(
        self,
        ends: Ends,
        rule: str,
        judge: Judge,
        judge_object: JudgeObject,
        tell: Callable[["Flow", Finding], None],
        memory: Memory,
        ask: Ask | None = None,
        beat: Callable[[], None] | None = None,
    ) -> None:
        """ask: gives both legs back to the kernel, where the rule has a depth; None: it only moves the bytes.

        beat: told before each piece is read, which may take long.
        """
        self.ends, self.rule, self.spec = ends, rule, judge.spec
        tracker = judge.track(ends.client, ends.server)
        self._inspector = StreamInspector(
            judge.spec, judge.patterns, judge.limits, judge.fingerprints, tracker
        )
        self._judge_object, self._tell, self._ask = judge_object, tell, ask
        self._beat = beat or (lambda: None)
        self.memory = memory
        memory.flows += 1
        self._counted = {"held": 0, "kept": 0}  # bytes that `memory` knows of
        self.legs = (Leg(self, Direction.TO_SERVER), Leg(self, Direction.TO_CLIENT))
        self._held = (bytearray(), bytearray())
        self._forwarded = [0, 0]
        self._ended = [False, False]
        self._closed = [False, False]
        self._blocked = [False, False]
        self._timers: list[asyncio.TimerHandle | None] = [None, None]
        self._jobs: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._bypass: Bypass | None = None
        self.done = asyncio.Event()
        self.protocol = ""

    def received(self, direction: Direction, data: bytes) -> None:
        """Take bytes of one direction."""
        if self.done.is_set():
            return
        self._beat()
        held = self._held[direction]
        whole = not held  # the common case: what is released at once is never copied
        if not whole:
            held.extend(data)
        with self._whatever_breaks():
            verdict = self._inspector.feed(direction, data)
            if whole and verdict.cut is None:
                ready = verdict.release[direction] - self._forwarded[direction]
                self.legs[direction.other].send(data if ready == len(data) else data[:ready])
                self._forwarded[direction] += ready
                held.extend(data[ready:])
            self._apply(verdict)
            self._count_held()
            self._watch_pause(direction)
            self._leave_when_due()

    def ended(self, direction: Direction) -> None:
        """Take the orderly end of one direction."""
        if self.done.is_set():
            return
        self._ended[direction] = True
        with self._whatever_breaks():
            verdict = self._inspector.end(direction)
            if self._ended[direction.other] and verdict.cut and verdict.cut.check in GIVEN_UP:
                self.reset()  # whoever should have had the rest hung up first: nobody's fault
            else:
                self._apply(verdict)

    def lost(self, direction: Direction, error: Exception | None) -> None:
        """Take the end of a leg: a reset on one side is a reset on the other."""
        self._closed[direction] = True
        if error is not None or not self._ended[direction]:
            self.reset()
        if all(self._closed):
            self._finish()

    def reset(self) -> None:
        """End both legs at once; not one more byte leaves."""
        if self._bypass:
            self._bypass.stop()
        for held in self._held:
            held.clear()
        for leg in self.legs:
            leg.reset()
        self._finish()

    def can_send(self, direction: Direction, *, more: bool) -> None:
        """Read on, or don't: the receiver of this direction takes more, or doesn't."""
        self._blocked[direction] = not more
        if more:
            with self._whatever_breaks():
                self._leave_when_due()
        self.go_on()

    def go_on(self) -> None:
        """Read where the receiver takes more and nothing is being judged."""
        if self._bypass:
            return
        for direction in Direction:
            self.legs[direction].read_on(not self._jobs and not self._blocked[direction])

    @contextlib.contextmanager
    def _whatever_breaks(self) -> Iterator[None]:
        """A mistake of ours costs this flow and no other, and so does too much to hold."""
        try:
            yield
        except LimitHit as limit:
            self.reset()
            self._tell(self, limit.finding())
        except Exception as error:  # noqa: BLE001 - whatever it was
            _log.exception("a flow broke")
            self.reset()
            detail = f"{type(error).__name__} amid the flow"
            self._tell(self, Finding(DropReason.INSPECTOR_DOWN, "inspector", detail))

    def _apply(self, verdict: Verdict) -> None:
        self.protocol = self._inspector.protocol
        if verdict.cut is not None:
            self.reset()
        else:
            for direction in Direction:
                self._forward(direction, verdict.release[direction])
        for finding in verdict.findings:
            self._tell(self, finding)
        if verdict.cut is None:
            for job in verdict.jobs:
                self._start(job)

    def _forward(self, direction: Direction, release: int) -> None:
        count = release - self._forwarded[direction]
        if count > 0:
            held = self._held[direction]
            receiver = self.legs[direction.other]
            receiver.send(bytes(held) if count == len(held) else bytes(held[:count]))
            del held[:count]
            self._forwarded[direction] = release
        if self._ended[direction] and not self._held[direction] and not self._jobs:
            self.legs[direction.other].send_end()

    def _count_held(self) -> None:
        over = self.done.is_set()
        self._count("held", 0 if over else sum(map(len, self._held)))
        self._count("kept", 0 if over else self._inspector.kept)

    def _count(self, what: str, now: int) -> None:
        if now != self._counted[what]:
            self.memory.count(what, self.ends.guests, now - self._counted[what])
            self._counted[what] = now

    def _start(self, job: Job) -> None:
        async def judge() -> None:
            found = await self._judge_object(job)
            self._jobs.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            if self.done.is_set():
                return
            with self._whatever_breaks():
                self._apply(self._inspector.judged(job.number, found))
                self._count_held()
                self._leave_when_due()
            self.go_on()

        self._jobs.add(asyncio.create_task(judge(), name="judge"))
        self.go_on()

    def _leave_when_due(self) -> None:
        """Let the kernel carry the rest: the rule's depth is reached, and nothing is held, judged or still to be sent."""
        depth = self.spec.offload_after
        if (
            not depth
            or sum(self._forwarded) < depth
            or self._bypass
            or self.done.is_set()
            or any(self._ended)
        ):
            return
        if not self._leaving:
            self._leaving = True
            for leg in self.legs:
                leg.send_before_reading()
        if any(self._held) or self._jobs or not all(leg.is_idle for leg in self.legs):
            return
        for direction in Direction:  # of an object that is on its way: what there is of it
            self._apply(self._inspector.pause(direction))
            if self.done.is_set():
                return
        if not self._jobs:
            self._leave()

    def _leave(self) -> None:
        near, far = self.legs
        for leg in self.legs:
            leg.read_on(False)
        self._bypass = Bypass(near.sock, far.sock, self._left, self.reset)
        self._stop_waiting()
        self._inspector.close()
        self._count_held()
        if self._ask:
            task = asyncio.create_task(self._hand_back(self._bypass, self._ask), name="hand back")
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)

    async def _hand_back(self, bypass: Bypass, ask: Ask) -> None:
        try:
            answer = await hand_back(bypass, ask)
        except (OSError, SocketsLost):
            return  # it ended meanwhile, or all do
        if answer[:1] == APART:
            _log.debug("a connection stays here: %s", answer[1:].decode())
            return
        await asyncio.sleep(LAST_PACKETS_S)
        self.reset()  # nobody hears it: netd has silenced both
        if answer[:1] != HANDED:
            detail = "the kernel did not take the connection back"
            self._tell(self, Finding(DropReason.INSPECTOR_DOWN, "handover", detail))

    def _left(self) -> None:
        """Close both legs after their orderly ends."""
        self._ended = [True, True]
        for leg in self.legs:
            leg.close()

    def _watch_pause(self, direction: Direction) -> None:
        if timer := self._timers[direction]:
            timer.cancel()
        self._timers[direction] = None
        if self._held[direction] and not self.done.is_set():
            self._timers[direction] = asyncio.get_running_loop().call_later(PAUSE_S, self._paused, direction)

    def _paused(self, direction: Direction) -> None:
        if not self.done.is_set() and not self._jobs:
            with self._whatever_breaks():
                self._apply(self._inspector.pause(direction))
                self._count_held()

    def _finish(self) -> None:
        if not self.done.is_set():
            self.done.set()
            self.memory.flows -= 1
            self._count_held()
            self._stop_waiting()
            for job in self._jobs:
                job.cancel()
            if not self._bypass:
                self._inspector.close()

    def _stop_waiting(self) -> None:
        for timer in self._timers:
            if timer:
                timer.cancel()


class Leg(asyncio.Protocol):
    """One leg: `direction` is that of the bytes which come in here."""

    def __init__(self, flow: Flow, direction: Direction) -> None:
        self._flow, self._direction = flow, direction
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._before: list[Callable[[], None]] = []  # what was to be done before this leg was there

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and do what the other leg asked for already (asyncio.Protocol)."""
        self._transport = cast(asyncio.Transport, transport)
        # should this process be killed: an orderly end would make what has passed look whole
        self._linger(_RESET)
        self._transport.set_write_buffer_limits(HIGH, LOW)
        self._transport.max_size = self._flow.memory.read_size  # type: ignore[attr-defined]
        before, self._before = self._before, []
        for act in before:
            act()
        asyncio.get_running_loop().call_soon(self._flow.go_on)  # asyncio begins to read right after this

    def data_received(self, data: bytes) -> None:
        """Hand bytes on (asyncio.Protocol)."""
        self._flow.received(self._direction, data)
        if self._transport is not None:
            self._transport.max_size = self._flow.memory.read_size  # type: ignore[attr-defined]

    def eof_received(self) -> bool:
        """Hand the end on; the other direction stays open (asyncio.Protocol)."""
        self._flow.ended(self._direction)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Hand the loss on (asyncio.Protocol)."""
        self._flow.lost(self._direction, error)

    def pause_writing(self) -> None:
        """Too much waits to be sent here: read no more on the other leg (asyncio.Protocol)."""
        self._flow.can_send(self._direction.other, more=False)

    def resume_writing(self) -> None:
        """Read again (asyncio.Protocol)."""
        self._flow.can_send(self._direction.other, more=True)

    @property
    def sock(self) -> socket.socket:
        """The leg's socket; only while it is there."""
        return cast("socket.socket", cast(asyncio.Transport, self._transport).get_extra_info("socket"))

    @property
    def is_idle(self) -> bool:
        """Tell whether the leg is there and nothing waits to be sent on it."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not transport.get_write_buffer_size()

    def send_before_reading(self) -> None:
        """From now on, read nothing more from the other leg until all that came is sent."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(0)

    def close(self) -> None:
        """Close in order."""
        if self._transport is not None:
            self._linger(_IN_ORDER)
            self._transport.close()

    def read_on(self, more: bool) -> None:
        """Read, or leave what comes in the kernel: back-pressure is its business."""
        transport = self._transport
        if transport is None or transport.is_closing() or more == self._reading:
            return
        self._reading = more
        if more:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def send(self, data: bytes) -> None:
        """Send bytes on this leg."""
        if self._transport is None:
            self._before.append(lambda: self.send(data))  # the server spoke first, and at once
        elif data and not self._transport.is_closing():
            self._transport.write(data)

    def send_end(self) -> None:
        """Send the orderly end, once what waits is sent."""
        transport = self._transport
        if transport is None:
            self._before.append(self.send_end)
        elif not transport.is_closing():
            with contextlib.suppress(OSError):
                transport.write_eof()
            if self._flow._ended[self._direction]:
                self.close()

    def reset(self) -> None:
        """End with a reset."""
        if self._transport is None:
            self._before = [self.reset]
        else:
            self._linger(_RESET)
            self._transport.abort()

    def _linger(self, how: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
