"""Carry the slots' decisions out: each is on the disk before anything follows from it."""

from collections.abc import Callable
from typing import Protocol

from vmhost.errors import HostError
from vmhost.update.bundle import Bundle
from vmhost.update.slots import Outcome, Slot, Slots


class SlotStore(Protocol):
    """Where slots and their state are. `save` is atomic and durable; `fill` is durable when it returns."""

    def load(self) -> Slots:
        """Read the state; raises HostError."""

    def save(self, slots: Slots) -> None:
        """Write the state."""

    def fill(self, slot: Slot, bundle: Bundle) -> None:
        """Put an update's files into a slot, compared with its manifest on the way; raises HostError."""


class SlotKeeper:
    """The slots of one gateway. Nothing is kept in memory: what is on the disk holds, whoever was killed when."""

    def __init__(self, store: SlotStore) -> None:
        self._store = store

    @property
    def slots(self) -> Slots:
        """What holds now; raises HostError."""
        return self._store.load()

    def install(self, bundle: Bundle, tries: int, within_s: float) -> None:
        """Make an update the candidate; raises HostError. What fails half-way leaves an empty slot."""
        empty = self.slots.cleared()
        offered = empty.offered(bundle.version, tries, within_s)
        self._store.save(empty)
        self._store.fill(empty.active.other, bundle)
        self._store.save(offered)

    def roll_back(self, tries: int, within_s: float) -> None:
        """Make the former image the candidate; raises HostError `no-way-back`."""
        self._store.save(self.slots.rolled_back(tries, within_s))

    def begin(self) -> Slot:
        """Count a try, and say which slot to start."""
        slots, slot = self.slots.begun()
        self._change(slots)
        return slot

    def bless(self) -> None:
        """Note that the candidate passed its self-test."""
        self._change(self.slots.blessed())

    def fail(self, reason: str) -> None:
        """Note that a try of the candidate failed."""
        self._change(self.slots.failed(reason))

    def commit(self) -> None:
        """Note that the TPM's least version is the active one's."""
        self._store.save(self.slots.committed())

    def tell(self, record: Callable[[Outcome], None]) -> None:
        """Have each outcome recorded that is not yet: at least once, in order. Raises what `record` raises."""
        for outcome in self.slots.untold:
            record(outcome)
            self._store.save(self.slots.told(1))

    def _change(self, slots: Slots) -> None:
        if slots != self.slots:
            self._store.save(slots)


def start_due(keeper: SlotKeeper, start: Callable[[Slot, Slots], None], stop: Callable[[], None]) -> None:
    """Start the slot that is due until one is up; raises HostError, OSError when the active one is not.

    `start` gets the slots as they are, and raises one of these when that slot does not come up or, a candidate, does not
    pass its self-test; `stop` ends what is left of it.
    """
    while True:
        slot = keeper.begin()
        slots = keeper.slots
        try:
            start(slot, slots)
            keeper.bless()
            return
        except (HostError, OSError) as error:
            stop()
            if slot is slots.active:
                raise
            keeper.fail(str(error))
        except BaseException:
            stop()
            raise
