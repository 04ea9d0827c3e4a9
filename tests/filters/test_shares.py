"""Shares: what one guest may have, and what is left for others."""

from hypothesis import given
from hypothesis import strategies as st

from filters.shares import Shares

A, B, C = ("a",), ("b",), ("c",)


def _most(shares: Shares, owners: tuple[str, ...]) -> int:
    taken = 0
    while shares.take(owners):
        taken += 1
    return taken


def test_one_guest_has_three_quarters_at_most() -> None:
    assert _most(Shares(4096), A) == 3072


def test_a_second_guest_gets_three_quarters_of_the_rest() -> None:
    shares = Shares(4096)
    _most(shares, A)
    assert _most(shares, B) == 768
    assert _most(shares, C) == 192


def test_a_pair_counts_for_both() -> None:
    shares = Shares(400)
    assert _most(shares, ("a", "b")) == 300
    assert _most(shares, ("a", "c")) == 0
    assert _most(shares, C) == 75


def test_rejects_more_than_is_free_and_takes_nothing() -> None:
    shares = Shares(100)
    assert not shares.take(A, 101)
    assert not shares.take(A, 76)
    assert shares.take(A, 75)
    assert not shares.take(("c", "a"), 1)
    assert shares.take(C, 18)


@given(st.lists(st.tuples(st.sampled_from([A, B, C, ("a", "b")]), st.integers(1, 40)), max_size=40))
def test_what_is_given_back_is_there_again(wishes: list[tuple[tuple[str, ...], int]]) -> None:
    shares = Shares(200)
    for owners, count in [wish for wish in wishes if shares.take(*wish)]:
        shares.give(owners, count)
    assert _most(shares, C) == 150
