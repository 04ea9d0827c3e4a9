"""Sets change as asked, or not at all."""

import pytest

from filters.inspection.fingerprints.print_set import FingerprintError, PrintSet
from tests.filters.inspection.fingerprints.documents import (
    SECRET_KEY,
    engine,
    found,
    noise,
    print_set,
    prose,
)


@pytest.mark.parametrize("name", ["", "Plan", "plan of war", ".plan", "../plan", "x" * 65, "plan\n", "机密"])
def test_rejects_names_that_no_check_could_have(name: str) -> None:
    with pytest.raises(FingerprintError, match="name of 1 to 64"):
        PrintSet(SECRET_KEY).add(name, [prose(1)], 1, 1, common=False)


def test_rejects_a_second_document_of_one_name() -> None:
    with pytest.raises(FingerprintError, match="already"):
        print_set({"plan": prose(1)}).add("plan", [prose(2)], 1, 1, common=False)


@pytest.mark.parametrize(
    "text", [b"", b"too short", bytes(10_000), b"-" * 5000, b"01 " * 2000, b"ACGT" * 1000]
)
def test_rejects_what_can_not_be_told_from_chance(text: bytes) -> None:
    with pytest.raises(FingerprintError, match="at least 4 fragments"):
        PrintSet(SECRET_KEY).add("x", [text], len(text), 1, common=False)


def test_rejects_the_removal_of_what_is_not_there() -> None:
    with pytest.raises(FingerprintError, match="no document 'budget'"):
        print_set({"plan": prose(1)}).remove("budget")


def test_what_was_removed_leaves_nothing_behind() -> None:
    both = print_set({"plan": prose(1), "budget": prose(2)})
    (left,) = both.remove("budget").documents
    assert left is both.documents[0]
    assert len(both.documents) == 2


def test_says_how_much_of_a_document_is_recognised() -> None:
    made = print_set({"text": prose(1), "noise": noise(1, 5000), "short": prose(2, 400)})
    assert [one.recognised for one in made.documents] == [1000, 1000, 0]
    half_dull = print_set({"half": prose(1, 5000) + b"=" * 5000}).documents[0]
    assert 400 < half_dull.recognised < 600


def test_a_short_document_is_recognised_as_a_whole() -> None:
    short = prose(4, 200)
    made = engine({"short": short})
    assert found(made, noise(1, 100) + short + noise(2, 100)) == ["short"]
    assert found(made, short[:60]) == []
