"""Which fragments are kept: by the definition of winnowing, the same however a text comes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.inspection.fingerprints.fragments import Chooser, Reader, covered, varied
from filters.inspection.fingerprints.parameters import GRAM, WINDOW
from tests.filters.inspection.fingerprints.documents import SECRET_KEY, noise, prose

CHOOSER = Chooser(SECRET_KEY)
SHARED = GRAM + WINDOW - 1
# text, noise and dull stretches, one after the other
TEXTS = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=300),
        st.builds(lambda one, size: prose(one, size), st.integers(0, 5), st.integers(1, 400)),
        st.builds(lambda one, times: one * times, st.binary(min_size=1, max_size=20), st.integers(1, 60)),
    ),
    min_size=1,
    max_size=6,
).map(b"".join)


def read(pieces: list[bytes]) -> list[tuple[int, int]]:
    reader = Reader(CHOOSER)
    batches = [batch for piece in pieces for batch in reader.read(piece)]
    return [
        (int(place), int(name))
        for places, names in batches
        for place, name in zip(places, names, strict=True)
    ]


def telling(text: bytes, kept: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those that may count: dull ones may be left out or not, as it is cheaper."""
    return {(place, name) for place, name in kept if len(set(text[place : place + GRAM])) > 8}


def cut(text: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(one, len(text)) for one in cuts} | {0, len(text)})
    return [text[start:stop] for start, stop in pairwise(places)]


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_keeps_the_smallest_of_every_window(text: bytes) -> None:
    hashes = CHOOSER._hashes(text + bytes(GRAM)).tolist()[: max(0, len(text) - GRAM + 1)]
    expected = set()
    for at in range(len(hashes) - WINDOW + 1):
        smallest = min(hashes[at : at + WINDOW])
        expected |= {one for one in range(at, at + WINDOW) if hashes[one] == smallest}
    assert {place for place, _ in telling(text, read([text]))} == {
        one for one in expected if len(set(text[one : one + GRAM])) > 8
    }


@given(TEXTS, st.lists(st.integers(0, 2500), max_size=12))
def test_what_is_kept_does_not_depend_on_how_the_text_is_cut(text: bytes, cuts: list[int]) -> None:
    assert telling(text, read(cut(text, cuts))) == telling(text, read([text]))


@settings(max_examples=20, deadline=None)
@given(TEXTS)
def test_what_is_kept_after_each_byte_depends_on_the_bytes_before_alone(text: bytes) -> None:
    reader, kept = Reader(CHOOSER), set[tuple[int, int]]()
    for at in range(len(text)):
        for places, names in reader.read(text[at : at + 1]):
            kept |= set(zip(places.tolist(), names.tolist(), strict=True))
        if at % 41 == 0:
            assert telling(text, list(kept)) == telling(text, read([text[: at + 1]]))


def test_long_texts_are_read_in_blocks_without_a_seam() -> None:
    text = noise(1, 200_000)
    pieces = [text[at : at + 7001] for at in range(0, len(text), 7001)]
    assert read([text]) == read(pieces)
    assert sorted(place for place, _ in read([text])) == [place for place, _ in read([text])]


@given(
    st.binary(max_size=200),
    st.binary(min_size=SHARED, max_size=SHARED),
    st.binary(max_size=200),
    st.binary(max_size=200),
)
def test_two_texts_that_share_a_run_share_a_fragment(
    before: bytes, shared: bytes, after: bytes, other: bytes
) -> None:
    if len(set(shared)) < 40:  # dull ones need not be kept
        return
    one = {name for _, name in read([before + shared + after])}
    two = {name for _, name in read([other + shared + before])}
    assert one & two


@pytest.mark.parametrize("period", [1, 2, 3, 4, 8, 9, 16, 31])
def test_what_repeats_costs_no_more_than_other_texts(period: int) -> None:
    text = (noise(period, period) * 100_000)[:100_000]
    assert len(read([text])) < len(text) / 8


def test_another_secret_keeps_and_names_otherwise() -> None:
    text = prose(1)
    reader = Reader(Chooser(b"x" * 32))
    theirs = {int(one) for _, names in reader.read(text) for one in names}
    assert not theirs & {name for _, name in read([text])}


def test_names_differ_where_one_bit_of_a_fragment_does() -> None:
    fragment = prose(3)[:GRAM]
    altered = [
        bytes(one ^ (1 << bit if at == place else 0) for at, one in enumerate(fragment))
        for place in range(GRAM)
        for bit in range(8)
    ]
    names = {int(CHOOSER.name(one, np.array([0]))[0]) for one in (fragment, *altered)}
    assert len(names) == len(altered) + 1


@pytest.mark.parametrize(
    ("fragment", "says"),
    [
        (bytes(GRAM), False),
        (b" " * 30 + b"}\n", False),
        (b"0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, ", False),
        (b"+-----+------+--------+--------+", False),
        (b"the quick brown fox jumps over t", True),
        (b"4,211.50 | 3,876.00 | 12,940.25 ", True),
    ],
)
def test_dull_fragments_are_told_from_telling_ones(fragment: bytes, says: bool) -> None:
    assert varied(fragment, np.array([0])).tolist() == [says]


def test_bytes_in_two_fragments_are_counted_once() -> None:
    assert covered(np.array([], np.intp)) == 0
    assert covered(np.array([10])) == GRAM
    assert covered(np.array([10, 12, 100])) == 2 * GRAM + 2
