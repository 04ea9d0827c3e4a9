"""Two slots for the gateway's image, and which of them is started. Pure: what happened comes in, what holds now comes out.

One slot is *active*: its image passed the self-test, and is what the gateway falls back to. The other may hold a
*candidate*, which has so many tries. A try is counted before it is made, so a host that dies in the middle of one has
used it up. Only a candidate that passes its self-test becomes active. One without tries is bad and never started again,
unless it was good before: an image that is rolled back to stays the way back, for an operator to try once more.
"""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from vmhost.errors import HostError

MOST_TRIES, MOST_SECONDS = 10, 3600.0
MAX_REASON, MAX_UNTOLD = 600, 16
CUT_SHORT = "its last try was cut short: the host or its monitor ended in the middle of it"


class Slot(StrEnum):
    """A place for an image."""

    A = "a"
    B = "b"

    @property
    def other(self) -> "Slot":
        """The one beside it."""
        return Slot.B if self is Slot.A else Slot.A


class State(StrEnum):
    """What is in a slot."""

    EMPTY = "empty"  # nothing, or files that are being written
    CANDIDATE = "candidate"
    GOOD = "good"
    BAD = "bad"


class Result(StrEnum):
    """How a candidate's story ended."""

    BLESSED = "blessed"
    FELL_BACK = "fell-back"


@dataclass(frozen=True, slots=True)
class Content:
    """What a slot holds. `within_s`: how long a try may take; `reason`: why the last one failed; `was_good`: a candidate was, once."""

    state: State = State.EMPTY
    version: int = 0
    tries_left: int = 0
    within_s: float = 0.0
    reason: str = ""
    was_good: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the gateway has to put on record."""

    result: Result
    version: int
    detail: str


@dataclass(frozen=True, slots=True)
class Slots:
    """Both slots. `least` is the version below which no image gets at the state, `untold` what is not on record yet."""

    a: Content
    b: Content
    active: Slot = Slot.A
    least: int = 1
    untold: tuple[Outcome, ...] = ()

    @classmethod
    def first(cls, version: int) -> "Slots":
        """Begin with one image, which is good by decree."""
        return cls(Content(State.GOOD, version), Content())

    def __getitem__(self, slot: Slot) -> Content:
        return self.a if slot is Slot.A else self.b

    @property
    def candidate(self) -> Slot | None:
        """The slot with a candidate, if there is one."""
        return self.active.other if self[self.active.other].state is State.CANDIDATE else None

    def cleared(self) -> "Slots":
        """Give the other slot's image up: its files may be overwritten."""
        return self._with(self.active.other, Content())

    def offered(self, version: int, tries: int, within_s: float) -> "Slots":
        """Make what was written to the other slot a candidate; raises HostError `bad-tries`, `slot-in-use`."""
        _check_tries(tries, within_s)
        if self[self.active.other].state is not State.EMPTY:
            raise HostError("slot-in-use", f"slot {self.active.other} has an image: clear it first")
        return self._with(self.active.other, Content(State.CANDIDATE, version, tries, within_s))

    def rolled_back(self, tries: int, within_s: float) -> "Slots":
        """Make the other good image a candidate: it has to prove itself again. Raises HostError `no-way-back`."""
        _check_tries(tries, within_s)
        other = self[self.active.other]
        if other.state is not State.GOOD or other.version < self.least:
            raise HostError(
                "no-way-back",
                f"slot {self.active.other}: expected a good image of version {self.least} or more, got "
                f"{_described(other)}; apply an update instead: quotegate update apply DIRECTORY",
            )
        candidate = Content(State.CANDIDATE, other.version, tries, within_s, was_good=True)
        return self._with(self.active.other, candidate)

    def begun(self) -> tuple["Slots", Slot]:
        """Count a try and say which slot to start. Save what is returned before starting it."""
        slot = self.candidate
        if slot is None:
            return self, self.active
        if self[slot].tries_left == 0:
            return self._given_up(CUT_SHORT), self.active
        return self._with(slot, replace(self[slot], tries_left=self[slot].tries_left - 1)), slot

    def blessed(self) -> "Slots":
        """The candidate passed its self-test: it is active from now on, and the former one stays to return to."""
        slot = self.candidate
        if slot is None:
            return self
        version = self[slot].version
        told = Outcome(Result.BLESSED, version, f"slot {slot}, before: version {self[self.active].version}")
        changed = self._with(slot, Content(State.GOOD, version))
        return replace(changed, active=slot, untold=self._told(told))

    def failed(self, reason: str) -> "Slots":
        """A try of the candidate failed; without tries left it is given up."""
        slot, reason = self.candidate, reason[:MAX_REASON]
        if slot is None:
            return self
        if self[slot].tries_left == 0:
            return self._given_up(reason)
        return self._with(slot, replace(self[slot], reason=reason))

    def committed(self) -> "Slots":
        """The TPM opens the state to nothing below the active version any more; what is older is given up."""
        slots = replace(self, least=max(self.least, self[self.active].version))
        older = self[self.active.other].version < slots.least
        return slots.cleared() if older else slots

    def told(self, count: int) -> "Slots":
        """So many outcomes are on record."""
        return replace(self, untold=self.untold[count:])

    def _given_up(self, reason: str) -> "Slots":
        slot = self.active.other
        version, state = self[slot].version, State.GOOD if self[slot].was_good else State.BAD
        told = Outcome(Result.FELL_BACK, version, f"to version {self[self.active].version}: {reason}")
        changed = self._with(slot, Content(state, version, reason=reason))
        return replace(changed, untold=self._told(told))

    def _told(self, outcome: Outcome) -> tuple[Outcome, ...]:
        return (*self.untold, outcome)[-MAX_UNTOLD:]

    def _with(self, slot: Slot, content: Content) -> "Slots":
        return replace(self, a=content) if slot is Slot.A else replace(self, b=content)

    def to_json(self) -> str:
        """Write them as a file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Slots":
        """Read what `to_json` wrote; raises HostError `bad-slots`."""
        try:
            data: dict[str, Any] = json.loads(text)
            found = cls(
                _content(data["a"]),
                _content(data["b"]),
                Slot(data["active"]),
                int(data["least"]),
                tuple(
                    Outcome(Result(one["result"]), one["version"], one["detail"]) for one in data["untold"]
                ),
            )
            if found[found.active].state is not State.GOOD:
                raise ValueError(f"the active slot is {found[found.active].state}")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise HostError(
                "bad-slots",
                f"the state of the gateway's slots can't be read: {error!r}; nothing was started: restore slots.json",
            ) from error
        return found


def _content(data: dict[str, Any]) -> Content:
    return Content(
        State(data["state"]),
        int(data["version"]),
        int(data["tries_left"]),
        float(data["within_s"]),
        str(data["reason"]),
        bool(data.get("was_good", False)),  # slots of before have no such word
    )


def _check_tries(tries: int, within_s: float) -> None:
    if not 1 <= tries <= MOST_TRIES or not 1 <= within_s <= MOST_SECONDS:
        raise HostError(
            "bad-tries",
            f"expected 1 to {MOST_TRIES} tries of 1 to {MOST_SECONDS:.0f} s, got {tries} of {within_s:.0f} s",
        )


def _described(content: Content) -> str:
    return "none" if content.state is State.EMPTY else f"{content.state} version {content.version}"
