"""Which documents are recognised, and which are not accused."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.inspection.fingerprints.engine import Engine
from filters.inspection.fingerprints.parameters import NEAR, RUN
from filters.reason import DropReason
from tests.filters.inspection.fingerprints.documents import engine, found, noise, print_set, prose

PLAN, BUDGET, LETTER = prose(1), prose(2), prose(3, 700)
ENGINE = engine({"plan": PLAN, "budget": BUDGET})


def alarm(
    pieces: list[bytes], made: Engine = ENGINE, channel: str = "stream"
) -> tuple[int, list[str]] | None:
    """With which piece the alarm comes, and what it says."""
    watch = made.watch()
    for number, piece in enumerate(pieces):
        if findings := watch.scan(channel, piece):
            return number, [f"{one.check} {one.detail} {one.evidence}" for one in findings]
    return None


def test_every_run_of_the_guaranteed_length_is_recognised() -> None:
    for start in range(len(PLAN) - RUN + 1):
        run = PLAN[start : start + RUN]
        assert found(ENGINE, run) == ["plan"], start
        if start % 7 == 0:
            assert alarm([noise(start, 200) + run]), start


@pytest.mark.parametrize("seed", range(3))
def test_binary_documents_too(seed: int) -> None:
    data = noise(seed, 8000)
    made = engine({"key-store": data})
    assert all(found(made, data[at : at + RUN]) for at in range(0, len(data) - RUN, 3))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(PLAN) - 800), st.integers(0, 200), st.lists(st.integers(0, 1400), max_size=10))
def test_the_alarm_comes_with_the_same_byte_however_the_stream_is_cut(
    start: int, before: int, cuts: list[int]
) -> None:
    text = prose(7, before) + PLAN[start : start + 300] + prose(8, 100) + PLAN[start + 300 : start + 800]
    slow = alarm([text[at : at + 1] for at in range(len(text))])
    assert slow is not None
    places = sorted({min(one, len(text)) for one in cuts} | {0, len(text)})
    fast = alarm([text[first:last] for first, last in pairwise(places)])
    assert fast is not None
    assert places[fast[0]] <= slow[0] < places[fast[0] + 1]
    assert fast[1] == slow[1]


def test_the_text_between_the_alarm_and_its_run_is_short() -> None:
    """What may have left before: less than a run."""
    for start in range(0, len(PLAN) - RUN, 97):
        slow = alarm([PLAN[at : at + 1] for at in range(start, start + RUN)])
        assert slow is not None, start


@pytest.mark.parametrize("width", [76, 120])
def test_quoted_and_wrapped_lines_hide_nothing(width: int) -> None:
    flat = PLAN.replace(b"\n", b" ")
    lines = [flat[at : at + width] for at in range(0, len(flat), width)]
    assert found(ENGINE, b"\r\n".join(b"> " + one for one in lines)) == ["plan"]


def test_pieces_far_from_each_other_are_no_alarm_and_near_ones_are() -> None:
    pieces = [PLAN[at : at + 90] for at in range(0, 3000, 150)]
    assert found(ENGINE, b"".join(one + noise(5, 100) for one in pieces)) == ["plan"]
    assert found(ENGINE, b"".join(one + noise(5, NEAR) for one in pieces)) == []


def test_the_same_fragment_again_and_again_is_no_alarm() -> None:
    assert found(ENGINE, (PLAN[100:200] + noise(5, 60)) * 20) == []


def test_messages_of_some_hundred_bytes_each_count_together() -> None:
    watch = ENGINE.watch()
    findings = []
    for at in range(0, 2000, 200):
        findings += watch.scan("message", PLAN[at : at + 200])
        watch.fresh("message")
    assert [one.check for one in findings] == ["fingerprints.plan"]


def test_what_was_before_a_fresh_beginning_is_not_joined_to_it() -> None:
    watch = ENGINE.watch()
    for at in range(0, 3000, 60):
        assert watch.scan("message", PLAN[at : at + 60]) == []
        watch.fresh("message")


def test_channels_are_read_each_by_itself() -> None:
    watch = ENGINE.watch()
    findings = []
    for at in range(0, 1200, 40):
        findings += watch.scan("one", PLAN[at : at + 40]) + watch.scan("two", noise(at, 40))
    assert [one.check for one in findings] == ["fingerprints.plan"]


def test_a_finding_tells_how_much_and_nothing_of_the_content() -> None:
    (finding,) = ENGINE.inside(PLAN)
    size = len(print_set({"plan": PLAN}).documents[0].prints)
    assert (finding.reason, finding.check) == (DropReason.DATA_LEAK, "fingerprints.plan")
    assert finding.evidence.startswith(f"{size} of {size} fragments, ")
    said = f"{finding.detail} {finding.evidence} {finding.inside}".encode()
    words = {one for one in PLAN.split() if len(one) > 5}
    assert words
    assert not any(one in said for one in words)
    (part,) = ENGINE.inside(PLAN[1000:2000])
    assert 20 < int(part.evidence.split(" ")[0]) < size / 3


def test_what_two_documents_share_accuses_both_and_says_so() -> None:
    made = engine({"plan": PLAN + LETTER, "budget": BUDGET + LETTER, "other": prose(5)})
    findings = list(made.inside(noise(1, 500) + LETTER))
    assert [one.check for one in findings] == ["fingerprints.budget", "fingerprints.plan"] or [
        one.check for one in findings
    ] == ["fingerprints.plan", "fingerprints.budget"]
    assert all("of them stand in" in one.detail for one in findings)
    (alone,) = made.inside(BUDGET)
    assert "stand in" not in alone.detail


def test_both_versions_of_a_document_are_recognised() -> None:
    second = PLAN[:3000] + prose(9, 500) + PLAN[3000:]
    made = engine({"plan-1": PLAN, "plan-2": second})
    assert set(found(made, PLAN[4000:5000])) == {"plan-1", "plan-2"}
    assert found(made, second[3000:3500]) == ["plan-2"]


def test_what_is_common_accuses_nobody_and_the_rest_still_does() -> None:
    made = engine({"plan": LETTER + PLAN, "budget": LETTER + BUDGET}, {"letterhead": LETTER})
    assert found(made, LETTER + prose(6)) == []
    assert found(made, LETTER) == []
    assert found(made, LETTER + PLAN[500:1100]) == ["plan"]


def test_a_document_of_which_all_is_common_accuses_nobody() -> None:
    assert found(engine({"letter": LETTER}, {"letterhead": LETTER + PLAN}), LETTER) == []


def test_an_empty_set_recognises_nothing() -> None:
    assert found(engine({}), PLAN) == []


def test_many_documents_are_told_apart() -> None:
    documents = {f"d{one}": prose(100 + one, 3000) for one in range(60)}
    made = engine(documents)
    for name, text in documents.items():
        start = random.Random(name).randrange(len(text) - RUN)
        assert found(made, text[start : start + RUN]) == [name]
    assert all(found(made, prose(500 + one, 3000)) == [] for one in range(60))
