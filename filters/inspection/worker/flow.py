"""Carry one inspected connection: two legs, and between them only what the inspector released."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

from filters.inspection.finding import Direction, Finding, LimitHit
from filters.inspection.objects.judge import Judge
from filters.inspection.stream import Job, StreamInspector, Verdict
from filters.inspection.worker.handing import Ask, hand_back
from filters.inspection.worker.leg import Leg
from filters.inspection.worker.memory import Memory
from filters.inspection.worker.sockets import SocketsLost
from filters.inspection.worker.splicing import Bypass
from filters.netd.verdicts import APART, HANDED
from filters.reason import DropReason

_log = logging.getLogger(__name__)
PAUSE_S: Final = 0.2  # nothing came for so long: what is held for what might follow is judged as it is
LAST_PACKETS_S: Final = 0.05  # those that were on their way to a socket still find one
GIVEN_UP: Final = frozenset({"http-body-incomplete", "coding-incomplete", "smtp-incomplete"})

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
        self._memory = memory
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

    def begin(self, near: socket.socket, far: socket.socket) -> None:
        """Carry these two connected sockets; they are the flow's from now on."""
        for leg, sock in zip(self.legs, (near, far), strict=True):
            leg.begin(sock)
        self._go_on()

    @property
    def read_size(self) -> int:
        """See Carrier."""
        return self._memory.read_size

    def received(self, direction: Direction, data: bytes) -> None:
        """See Carrier."""
        if self.done.is_set():
            return
        with self._whatever_breaks():
            self._beat()
            held = self._held[direction]
            whole = not held  # the common case: what is released at once is never copied
            if not whole:
                held.extend(data)
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
        """See Carrier."""
        if self.done.is_set():
            return
        self._ended[direction] = True
        with self._whatever_breaks():
            verdict = self._inspector.end(direction)
            if self._ended[direction.other] and verdict.cut and verdict.cut.check in GIVEN_UP:
                self.reset()  # whoever should have had the rest hung up first: nobody's fault
            else:
                self._apply(verdict)

    def closed(self, direction: Direction) -> None:
        """See Carrier."""
        self._closed[direction] = True
        if all(self._closed):
            self._finish()

    def reset(self) -> None:
        """End both legs at once; not one more byte leaves. See Carrier: what is reset on one side is reset on the other."""
        if self._bypass:
            self._bypass.stop()
        for held in self._held:
            held.clear()
        for leg in self.legs:
            leg.reset()
        self._finish()

    def can_send(self, direction: Direction, *, more: bool) -> None:
        """See Carrier."""
        self._blocked[direction] = not more
        if more:
            with self._whatever_breaks():
                self._leave_when_due()
        self._go_on()

    def _go_on(self) -> None:
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
            self._memory.count(what, self.ends.guests, now - self._counted[what])
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
            self._go_on()

        self._jobs.add(asyncio.create_task(judge(), name="judge"))
        self._go_on()

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
            self._memory.flows -= 1
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
