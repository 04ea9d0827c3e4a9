"""Which slot is started: dialogues with the state machine."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmhost.errors import HostError
from vmhost.update.slots import CUT_SHORT, MAX_UNTOLD, Content, Outcome, Result, Slot, Slots, State

FIRST = Slots.first(1)
OFFERED = FIRST.offered(2, tries=2, within_s=60)
BLESSED = OFFERED.begun()[0].blessed()


def refusal(raised: "pytest.ExceptionInfo[HostError]") -> str:
    return raised.value.code


def test_without_a_candidate_the_active_slot_is_started_and_nothing_changes() -> None:
    assert FIRST.begun() == (FIRST, Slot.A)


def test_a_try_is_counted_before_it_is_made() -> None:
    slots, slot = OFFERED.begun()
    assert (slot, slots[slot].tries_left) == (Slot.B, 1)
    assert slots.active is Slot.A


def test_a_candidate_that_passes_is_active_and_the_former_stays_good() -> None:
    assert (BLESSED.active, BLESSED.b.state, BLESSED.a.state) == (Slot.B, State.GOOD, State.GOOD)
    assert BLESSED.begun() == (BLESSED, Slot.B)
    assert BLESSED.untold == (Outcome(Result.BLESSED, 2, "slot b, before: version 1"),)


def test_a_failed_try_is_followed_by_the_next_one() -> None:
    slots = OFFERED.begun()[0].failed("kernel panic")
    assert slots.b == Content(State.CANDIDATE, 2, 1, 60, "kernel panic")
    slots, slot = slots.begun()
    assert (slot, slots.b.tries_left) == (Slot.B, 0)


def test_the_last_failed_try_makes_it_bad_and_the_former_is_started() -> None:
    slots = OFFERED.begun()[0].failed("once").begun()[0].failed("twice")
    assert slots.b == Content(State.BAD, 2, reason="twice")
    assert slots.begun() == (slots, Slot.A)
    assert slots.untold == (Outcome(Result.FELL_BACK, 2, "to version 1: twice"),)


def test_tries_that_nobody_saw_the_end_of_count() -> None:
    slots, started = OFFERED, []
    for _ in range(4):  # killed in the middle of each
        slots, slot = slots.begun()
        started.append(slot)
    assert started == [Slot.B, Slot.B, Slot.A, Slot.A]
    assert slots.b == Content(State.BAD, 2, reason=CUT_SHORT)


def test_the_next_update_goes_into_the_slot_that_is_not_active() -> None:
    again = BLESSED.cleared()
    assert (again.a, again.b) == (Content(), BLESSED.b)
    assert again.offered(3, 1, 60).begun()[1] is Slot.A


def test_rejects_offer_over_an_image() -> None:
    with pytest.raises(HostError) as raised:
        BLESSED.offered(3, 1, 60)
    assert refusal(raised) == "slot-in-use"


def test_what_is_rolled_back_to_has_to_prove_itself_again() -> None:
    slots, slot = BLESSED.rolled_back(1, 60).begun()
    assert (slot, slots.active) == (Slot.A, Slot.B)
    assert slots.failed("it is broken too").begun()[1] is Slot.B
    back = slots.blessed()
    assert (back.active, back.b.state) == (Slot.A, State.GOOD)
    assert back.rolled_back(1, 60).begun()[1] is Slot.B


def test_a_rollback_that_fails_leaves_the_way_back() -> None:
    slots = BLESSED.rolled_back(2, 60).begun()[0].failed("once").begun()[0].failed("its line broke")
    assert slots.a == Content(State.GOOD, 1, reason="its line broke")
    assert slots.untold[-1] == Outcome(Result.FELL_BACK, 1, "to version 2: its line broke")
    assert slots.begun() == (slots, Slot.B)  # it is tried again at an operator's word alone
    assert slots.rolled_back(1, 60).begun()[1] is Slot.A


def test_a_rollback_that_is_cut_short_leaves_the_way_back() -> None:
    slots = BLESSED.rolled_back(1, 60).begun()[0].begun()[0]
    assert slots.a == Content(State.GOOD, 1, reason=CUT_SHORT)


def test_slots_that_were_written_without_the_word_are_read() -> None:
    text = OFFERED.to_json().replace(',\n  "was_good": false', "")
    assert "was_good" not in text
    assert Slots.from_json(text) == OFFERED


@pytest.mark.parametrize(
    "slots", [FIRST, OFFERED, OFFERED.begun()[0].failed("x").begun()[0].failed("y"), BLESSED.committed()],
    ids=["empty", "candidate", "bad", "committed"],
)  # fmt: skip
def test_rejects_rollback_without_a_good_image(slots: Slots) -> None:
    with pytest.raises(HostError) as raised:
        slots.rolled_back(1, 60)
    assert refusal(raised) == "no-way-back"


def test_a_commit_gives_the_older_image_up() -> None:
    slots = BLESSED.committed()
    assert (slots.least, slots.a, slots.active) == (2, Content(), Slot.B)


def test_a_commit_after_a_rollback_keeps_the_newer_image() -> None:
    back = BLESSED.rolled_back(1, 60).begun()[0].blessed()
    slots = back.committed()
    assert (slots.least, slots.b) == (1, back.b)


@pytest.mark.parametrize(("tries", "within_s"), [(0, 60), (11, 60), (-1, 60), (1, 0), (1, 3601)])
def test_rejects_tries_out_of_range(tries: int, within_s: float) -> None:
    with pytest.raises(HostError) as raised:
        FIRST.offered(2, tries, within_s)
    assert refusal(raised) == "bad-tries"


def test_outcomes_are_told_in_order_and_bounded() -> None:
    slots = FIRST
    for version in range(2, 30):
        slots = slots.cleared().offered(version, 1, 60).begun()[0].failed("x")
    assert [one.version for one in slots.untold] == list(range(30 - MAX_UNTOLD, 30))
    assert [one.version for one in slots.told(3).untold] == list(range(33 - MAX_UNTOLD, 30))


@pytest.mark.parametrize("slots", [FIRST, OFFERED, BLESSED, BLESSED.committed(), BLESSED.rolled_back(1, 60)])
def test_they_survive_their_file(slots: Slots) -> None:
    assert Slots.from_json(slots.to_json()) == slots


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", FIRST.to_json()[:-5], FIRST.to_json().replace('"active": "a"', '"active": "c"'),
        replace(FIRST, active=Slot.B).to_json(), FIRST.to_json().replace("good", "splendid"),
    ],
    ids=["empty", "list", "no-fields", "truncated", "no-such-slot", "active-is-empty", "no-such-state"],
)  # fmt: skip
def test_rejects_broken_state(text: str) -> None:
    with pytest.raises(HostError) as raised:
        Slots.from_json(text)
    assert refusal(raised) == "bad-slots"


MOVES = ("begun", "blessed", "failed", "offered", "rolled_back", "committed", "told")


@given(st.lists(st.sampled_from(MOVES), max_size=40))
def test_whatever_happens_the_active_slot_is_good_and_tries_run_out(moves: list[str]) -> None:
    slots, version = FIRST, 1
    for move in moves:
        before = slots
        match move:
            case "begun":
                slots, slot = slots.begun()
                assert slots[slot].state in (State.GOOD, State.CANDIDATE)
                assert slot is slots.active or slots[slot].tries_left == before[slot].tries_left - 1
            case "offered":
                version += 1
                slots = slots.cleared().offered(version, 2, 60)
            case "rolled_back" if slots[slots.active.other].state is State.GOOD:
                slots = slots.rolled_back(2, 60)
            case "failed":
                slots = slots.failed("x")
            case "told":
                slots = slots.told(1)
            case "blessed" | "committed":
                slots = getattr(slots, move)()
        assert slots[slots.active].state is State.GOOD
        assert slots[slots.active].version >= slots.least or before.active is not slots.active
        assert Slots.from_json(json.dumps(json.loads(slots.to_json()))) == slots


@pytest.mark.parametrize(
    "text",
    [FIRST.to_json().replace('"version": 1', '"version": 1e999', 1), "[" * 100_000, b"\xff\xfe"],
    ids=["endless-number", "deep", "no-text"],
)
def test_rejects_state_that_a_disk_spoilt(text: str | bytes) -> None:
    with pytest.raises(HostError) as raised:
        Slots.from_json(text)
    assert refusal(raised) == "bad-slots"
