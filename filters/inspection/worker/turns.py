"""Give a few things out in turns, guest after guest: who asks for many waits for itself and for nobody else's many."""

import asyncio
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Things that one at a time may have."""

    def __init__(self) -> None:
        self._free: deque[T] = deque()
        self._waiting: OrderedDict[object, deque[asyncio.Future[T]]] = OrderedDict()

    async def take(self, guest: object) -> T:
        """Return a thing once it is this guest's turn; raises what `refuse` was given."""
        if self._free:
            return self._free.popleft()
        turn: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(guest, deque()).append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give(turn.result())  # it came, and nobody is there any more
            raise

    def give(self, thing: T) -> None:
        """Give a thing to whose turn it is."""
        while self._waiting:
            guest, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[guest] = turns  # behind the others
            if not turn.done():
                turn.set_result(thing)
                return
        self._free.append(thing)

    def take_free(self) -> list[T]:
        """Return all that nobody has, and keep none."""
        free = list(self._free)
        self._free.clear()
        return free

    def refuse(self, why: Exception) -> None:
        """Let nobody wait any longer."""
        waiting = [turn for turns in self._waiting.values() for turn in turns if not turn.done()]
        self._waiting.clear()
        for turn in waiting:
            turn.set_exception(why)
