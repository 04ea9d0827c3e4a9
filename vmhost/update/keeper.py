"""Carry the slots' decisions out: each is on the disk before anything follows from it."""

from collections.abc import Callable
from typing import Protocol

from vmhost.errors import HostError
from vmhost.log import say
from vmhost.update.bundle import Bundle
from vmhost.update.slots import Outcome, Slot, Slots


class SlotStore(Protocol):
    """Where slots and their state are. `save` is atomic and durable; `fill` is durable when it returns."""

    def check_room(self, slot: Slot, bundle: Bundle) -> None:
        """Return when an update's files fit in a slot; raises HostError."""

    def load(self) -> Slots:
        """Read the state; raises HostError."""

    def save(self, slots: Slots) -> None:
        """Write the state; raises HostError when it can't be written."""

    def fill(self, slot: Slot, bundle: Bundle) -> None:
        """Put an update's files into a slot, compared with its manifest on the way; raises HostError."""


class SlotKeeper:
    """The slots of one gateway. What is on the disk holds, whoever was killed when.

    But for a blessing that a full disk did not take: it holds as long as this keeper, and is written as soon as that works.
    """

    def __init__(self, store: SlotStore) -> None:
        self._store = store
        self._unsaved: Slots | None = None

    @property
    def slots(self) -> Slots:
        """What holds now; raises HostError."""
        return self._unsaved or self._store.load()

    @property
    def has_unsaved(self) -> bool:
        """Tell whether a blessing is still to be written."""
        return self._unsaved is not None

    def save_again(self) -> None:
        """Write the blessing that could not be written; raises HostError when it still can't."""
        if self._unsaved is not None:
            self._save(self._unsaved)

    def install(self, bundle: Bundle, tries: int, within_s: float) -> None:
        """Make an update the candidate; raises HostError. What fails half-way leaves an empty slot."""
        empty = self.slots.cleared()
        offered = empty.offered(bundle.version, tries, within_s)
        self._store.check_room(
            empty.active.other, bundle
        )  # the image to go back to is given up for nothing else
        self._save(empty)
        self._store.fill(empty.active.other, bundle)
        self._save(offered)

    def roll_back(self, tries: int, within_s: float) -> None:
        """Make the former image the candidate; raises HostError `no-way-back`."""
        self._save(self.slots.rolled_back(tries, within_s))

    def begin(self) -> Slot:
        """Count a try, and say which slot to start: the active one where the try can't be counted. Raises HostError."""
        slots, slot = self.slots.begun()
        try:
            self._change(slots)
        except HostError as error:
            say(f"no try of the gateway's candidate, as it can't be counted: {error}")
            return slots.active
        return slot

    def bless(self) -> None:
        """Note that the candidate passed its self-test; raises HostError."""
        blessed = self.slots.blessed()
        try:
            self._change(blessed)
        except HostError as error:
            say(f"the gateway's candidate passed its self-test and runs on: {error}")
            self._unsaved = blessed

    def fail(self, reason: str) -> None:
        """Note that a try of the candidate failed; where that can't be written, the try is counted all the same. Raises HostError."""
        failed = self.slots.failed(reason)
        try:
            self._change(failed)
        except HostError as error:
            say(f"a try of the gateway's candidate failed ({reason}): {error}")

    def commit(self) -> None:
        """Note that the TPM's least version is the active one's."""
        self._save(self.slots.committed())

    def tell(self, record: Callable[[Outcome], None]) -> None:
        """Have each outcome recorded that is not yet: at least once, in order. Raises what `record` raises."""
        for outcome in self.slots.untold:
            record(outcome)
            self._save(self.slots.told(1))

    def _change(self, slots: Slots) -> None:
        if slots != self.slots:
            self._save(slots)

    def _save(self, slots: Slots) -> None:
        self._store.save(slots)
        self._unsaved = None


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
            if slot is slots.candidate:
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
