"""A monitor that is killed between any two steps of an update, or in the middle of one, and started again.

The disk is a stand-in on which each write is there whole or not at all, as the real one promises; files of a slot may
be half there. Whatever is killed when: what runs in the end is a good image, and no candidate was started more often
than it was allowed to.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from authn.state_policy import Approval
from vmhost.errors import HostError
from vmhost.update.bundle import Bundle
from vmhost.update.keeper import SlotKeeper, start_due
from vmhost.update.manifest import Manifest
from vmhost.update.slots import Outcome, Result, Slot, Slots, State

APPROVAL = Approval(2, "00" * 32, "00" * 64, "00" * 64)
TRIES = 2


def update(version: int) -> Bundle:
    return Bundle(Path("update"), Manifest(version, 0.0, "gateway", {}, APPROVAL, b""))


class Killed(BaseException):
    """The monitor is gone."""


@dataclass
class World:
    """What outlives the monitor, and when it is killed: at the n-th step, before or after that takes effect."""

    good: set[int] = field(default_factory=lambda: {1})
    files: dict[Slot, int | None] = field(default_factory=lambda: {Slot.A: 1, Slot.B: None})
    disk: str = field(default_factory=lambda: Slots.first(1).to_json())
    running: int | None = None
    starts: Counter[int] = field(default_factory=Counter)
    record: list[Outcome] = field(default_factory=list)
    kill_at: int = -1
    late: bool = False
    full: bool = False  # nothing can be written
    full_once_started: int = 0  # the disk is full once this version runs
    steps: Iterator[int] = field(default_factory=count)

    def step(self, effect: Callable[[], None]) -> None:
        killed = next(self.steps) == self.kill_at
        if killed and not self.late:
            raise Killed
        effect()
        if killed:
            raise Killed

    def load(self) -> Slots:
        return Slots.from_json(self.disk)

    def check_room(self, slot: Slot, bundle: Bundle) -> None:
        if self.full:
            raise HostError("slot-failed", "no space")

    def save(self, slots: Slots) -> None:
        def effect() -> None:
            self.disk = slots.to_json()

        if self.full:
            raise HostError("slots-not-saved", "no space")

        self.step(effect)

    def fill(self, slot: Slot, bundle: Bundle) -> None:
        self.files[slot] = None  # half there
        self.step(lambda: self.files.update({slot: bundle.version}))

    def start(self, slot: Slot, slots: Slots) -> None:
        def effect() -> None:
            self.running = self.files[slot]

        version = self.files[slot]
        assert version is not None, "half an image was started"
        assert version == slots[slot].version
        self.starts[version] += 1
        self.step(effect)
        self.full = self.full or version == self.full_once_started
        if version not in self.good:
            raise HostError("gateway-failed", "kernel panic")

    def stop(self) -> None:
        self.running = None

    def tell(self, outcome: Outcome) -> None:
        self.step(lambda: self.record.append(outcome))

    def monitor(self, work: Callable[[SlotKeeper], None]) -> None:
        """One life of the monitor: it does some work, and has the gateway run."""
        self.running = None
        keeper = SlotKeeper(self)
        work(keeper)
        start_due(keeper, self.start, self.stop)
        keeper.tell(self.tell)


def nothing(_: SlotKeeper) -> None:
    """Only start what is due."""


def story(world: World, version: int) -> None:
    """Apply an update; the monitor may be killed once, and is started again then."""
    try:
        world.monitor(lambda keeper: keeper.install(update(version), TRIES, 60))
    except Killed:
        world.running = None  # the machines end with it
        world.monitor(nothing)


def steps_of(version: int, good: set[int]) -> int:
    """How many steps an undisturbed update has."""
    world = World(good=set(good))
    story(world, version)
    return next(world.steps)


GOOD_STEPS, BAD_STEPS = steps_of(2, {1, 2}), steps_of(2, {1})


def test_there_are_steps_to_be_killed_at() -> None:
    assert (GOOD_STEPS, BAD_STEPS) == (8, 12)


def test_a_good_update_is_in_force_and_on_record() -> None:
    world = World(good={1, 2})
    story(world, 2)
    assert (world.running, world.load().active, world.starts[2]) == (2, Slot.B, 1)
    assert [one.result for one in world.record] == [Result.BLESSED]
    assert world.load().untold == ()


def test_a_bad_update_falls_back_by_itself() -> None:
    world = World()
    story(world, 2)
    assert (world.running, world.load().active, world.starts[2]) == (1, Slot.A, TRIES)
    assert [(one.result, one.detail) for one in world.record] == [
        (Result.FELL_BACK, "to version 1: kernel panic")
    ]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(GOOD_STEPS))
def test_killed_at_any_step_of_a_good_update(at: int, late: bool) -> None:
    world = World(good={1, 2}, kill_at=at, late=late)
    story(world, 2)
    slots = world.load()
    assert world.running == slots[slots.active].version == world.files[slots.active]
    assert slots[slots.active].state is State.GOOD
    assert slots.candidate is None
    assert world.starts[2] <= TRIES
    assert slots.untold == ()
    story(world, 3)  # the next update finds everything in order
    assert world.running == slots[slots.active].version  # 3 is a bad one
    assert world.load().active is slots.active


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(BAD_STEPS))
def test_killed_at_any_step_of_a_bad_update(at: int, late: bool) -> None:
    world = World(kill_at=at, late=late)
    story(world, 2)
    slots = world.load()
    assert (world.running, slots.active) == (1, Slot.A)
    assert slots.candidate is None
    assert world.starts[2] <= TRIES
    assert {one.result for one in world.record} <= {Result.FELL_BACK}
    assert slots.b.state is State.EMPTY or world.record  # whatever was tried is on record
    world.good.add(3)
    story(world, 3)
    assert world.running == 3


def test_killed_in_the_middle_of_every_try() -> None:
    """A host that dies each time: the tries run out, and the former image is started."""
    world = World(good={1, 2})
    keeper = SlotKeeper(world)
    keeper.install(update(2), TRIES, 60)
    lives = 0
    while world.running is None and lives < 10:
        lives += 1
        world.steps, world.kill_at = count(), (1 if keeper.slots.candidate else -1)
        try:
            world.monitor(nothing)
        except Killed:
            world.running = None
    assert world.running == 1
    assert world.starts[2] == TRIES
    assert keeper.slots.b.state is State.BAD


def test_a_slot_that_could_not_be_written_stays_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(good={1, 2})
    keeper = SlotKeeper(world)

    def full(slot: Slot, bundle: Bundle) -> None:
        raise HostError("slot-failed", "no space")

    monkeypatch.setattr(world, "fill", full)
    with pytest.raises(HostError):
        keeper.install(update(2), TRIES, 60)
    assert keeper.slots.b.state is State.EMPTY
    world.monitor(nothing)
    assert world.running == 1


def test_an_update_that_does_not_fit_costs_no_way_back() -> None:
    world = World(good={1, 2, 3})
    story(world, 2)
    before, world.full = world.disk, True
    with pytest.raises(HostError) as raised:
        SlotKeeper(world).install(update(3), TRIES, 60)
    assert (raised.value.code, world.disk, world.files[Slot.A]) == ("slot-failed", before, 1)


def test_a_try_that_can_not_be_counted_is_not_made_and_the_good_image_is_started() -> None:
    world = World(good={1, 2})
    keeper = SlotKeeper(world)
    keeper.install(update(2), TRIES, 60)
    world.full = True
    start_due(keeper, world.start, world.stop)
    assert (world.running, world.starts[2]) == (1, 0)
    assert keeper.slots.candidate is Slot.B  # neither blessed nor given up
    world.full = False
    world.monitor(nothing)
    assert world.running == 2


def test_a_candidate_that_passed_runs_on_though_that_can_not_be_written() -> None:
    world = World(good={1, 2}, full_once_started=2)
    keeper = SlotKeeper(world)
    keeper.install(update(2), TRIES, 60)
    start_due(keeper, world.start, world.stop)
    assert (world.running, keeper.slots.active, keeper.has_unsaved) == (2, Slot.B, True)
    assert world.load().candidate is Slot.B  # whoever starts now has to try it again
    with pytest.raises(HostError):
        keeper.save_again()
    start_due(keeper, world.start, world.stop)  # a restart needs no further try
    assert (world.running, world.load().b.tries_left) == (2, TRIES - 1)
    world.full = False
    keeper.save_again()
    assert (world.load().active, keeper.has_unsaved) == (Slot.B, False)


def test_a_failure_that_can_not_be_written_is_followed_by_the_good_image() -> None:
    world = World(full_once_started=2)
    SlotKeeper(world).install(update(2), TRIES, 60)
    start_due(SlotKeeper(world), world.start, world.stop)
    assert (world.running, world.starts[2]) == (1, 1)


def test_rejects_bad_tries_before_anything_is_written() -> None:
    world = World()
    before = world.disk
    with pytest.raises(HostError):
        SlotKeeper(world).install(update(2), 0, 60)
    assert (world.disk, world.files[Slot.B]) == (before, None)


def test_when_the_active_image_does_not_start_that_is_said() -> None:
    world = World(good=set())
    with pytest.raises(HostError) as raised:
        world.monitor(nothing)
    assert raised.value.code == "gateway-failed"
    assert world.running is None


def test_an_outcome_that_could_not_be_recorded_is_told_again() -> None:
    world = World(good={1, 2})

    def away(outcome: Outcome) -> None:
        raise HostError("gateway-away", "no answer")

    keeper = SlotKeeper(world)
    keeper.install(update(2), TRIES, 60)
    start_due(keeper, world.start, world.stop)
    with pytest.raises(HostError):
        keeper.tell(away)
    world.monitor(nothing)
    assert [one.result for one in world.record] == [Result.BLESSED]
