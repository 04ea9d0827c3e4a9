"""One buffer against what a rule says of it: compared with trying everything, one place after another."""

import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.inspection.finding import LimitHit
from filters.inspection.matching.database import Expression
from filters.inspection.suricata.matching import Block, follow, matches
from filters.inspection.suricata.model import ByteTest, Content, DataAt, Group, Item, Regex, Size


def naive(chain: Sequence[Item], data: bytes, place: int = 0) -> bool:
    """Try every place of every content, in order: what finds nothing leaves the place where it was, as in Suricata."""
    if not chain:
        return True
    one, *rest = chain
    if isinstance(one, Size):
        return one.least <= len(data) <= one.most and naive(rest, data, place)
    assert isinstance(one, Content)
    base = place if one.relative else 0
    low = max(0, base + one.low)
    high = len(data) if one.span is None else min(len(data), base + one.low + one.span)
    text = data.lower() if one.caseless else data
    starts = [at for at in range(low, high - len(one.data) + 1) if text[at : at + len(one.data)] == one.data]
    if one.at_end:
        starts = [at for at in starts if at + len(one.data) == len(data)]
    if one.negated:
        return not starts and naive(rest, data, place)
    return any(naive(rest, data, at + len(one.data)) for at in starts)


LETTERS = st.binary(min_size=1, max_size=2).map(lambda data: bytes(97 + one % 2 for one in data))
SPANS = st.one_of(st.none(), st.integers(2, 6))
FIRST = st.builds(Content, LETTERS, st.booleans(), st.just(False), st.just(False), st.integers(0, 4), SPANS)
LATER = st.builds(
    Content, LETTERS, st.booleans(), st.booleans(), st.just(True), st.integers(-4, 4), SPANS, st.booleans()
)
ABSENT = st.builds(Content, LETTERS, negated=st.just(True), low=st.integers(0, 4), span=SPANS)
SIZE = st.builds(Size, st.integers(0, 3), st.integers(10, 16))
DATA = st.binary(max_size=16).map(lambda data: bytes(97 + one % 2 if one % 5 else 65 for one in data))


@given(FIRST, st.lists(LATER, max_size=3), DATA)
@settings(max_examples=600)
def test_a_chain_matches_exactly_where_trying_everything_does(
    first: Content, later: list[Content], data: bytes
) -> None:
    chain = [first, *later]
    assert bool(follow(chain, Block(data))) == naive(chain, data)


def group(*items: Item) -> Group:
    return Group("http.uri", items)


@given(st.lists(st.one_of(FIRST, LATER, ABSENT, SIZE), min_size=1, max_size=5), DATA)
@settings(max_examples=1500)
def test_finds_what_is_relative_behind_items_that_move_nothing(items: list[Item], data: bytes) -> None:
    assert matches(group(*items), data) == naive(items, data)


def test_chains_without_a_relation_come_in_any_order() -> None:
    wanted = group(Content(b"one"), Content(b"two"))
    assert matches(wanted, b"two one")
    assert not matches(wanted, b"one")


def test_no_order_of_bytes_makes_a_chain_slow() -> None:
    """Trying every place would take longer than the universe has."""
    chain = group(
        *[Content(b"a", relative=number > 0) for number in range(12)],
        Content(b"b", relative=True),
        Content(b"c", relative=True),
    )
    assert not matches(chain, b"a" * 20_000 + b"b")
    assert not matches(chain, b"cb" + b"a" * 20_000 + b"b")


@pytest.mark.parametrize(
    ("item", "data", "found"),
    [
        (Size(3, 5), b"abc", True), (Size(3, 5), b"ab", False), (Size(3, 3, negated=True), b"abc", False),
        (DataAt(2), b"abc", True), (DataAt(3), b"abc", False), (DataAt(3, negated=True), b"abc", True),
        (ByteTest(2, ">", 255, 0), b"\1\0", True), (ByteTest(2, ">", 255, 0, little=True), b"\1\0", False),
        (ByteTest(2, "&", 0x100, 0), b"\1\0", True), (ByteTest(3, "=", 10, 0, base=10), b"010x", True),
        (ByteTest(0, "<", 11, 0, base=10), b"10x", True), (ByteTest(2, "=", 31, 0, base=16), b"1f", True), (ByteTest(1, "=", 0, 0, base=10), b"x", False),
        (ByteTest(4, "=", 0, 0), b"\0\0", False), (ByteTest(4, "=", 0, 0, negated=True), b"\0\0", False),
        (ByteTest(1, "=", 1, 0, negated=True), b"\0", True),
    ],
)  # fmt: skip
def test_other_items(item: Item, data: bytes, found: bool) -> None:
    assert matches(group(item), data) is found


@pytest.mark.parametrize(
    ("place", "negated", "found"),
    [(4, False, True), (5, False, True), (6, False, False), (6, True, True), (1, True, False)],
)
def test_data_at_a_place_behind_a_content_counts_one_further(place: int, negated: bool, found: bool) -> None:
    """As Suricata's user guide has it for `payload:"c"; isdataat:5,relative;` in `abcdefgh`."""
    assert matches(group(Content(b"c"), DataAt(place, relative=True, negated=negated)), b"abcdefgh") is found


def regex(text: str, **words: bool) -> Regex:
    return Regex(Expression(text.encode(), caseless=False), **words)


def behind(text: str) -> Regex:
    """An expression with ^ before it, which is the place that it is relative to."""
    start, loose = (Expression(one.encode(), caseless=False) for one in (r"\A" + text, text))
    return Regex(start, relative=True, at_place=start, loose=loose)


def test_expressions_stand_anywhere_or_behind_the_content_before_them() -> None:
    assert matches(group(regex("b.d")), b"abcd")
    assert matches(group(Content(b"a"), regex("cd", relative=True)), b"abcd")
    assert not matches(group(Content(b"cd"), regex("b", relative=True)), b"abcd")
    assert matches(group(Content(b"a"), behind("bc")), b"xxabc")
    assert not matches(group(Content(b"a"), behind("c")), b"xxabc")
    assert matches(group(Content(b"a"), behind("c")), b"ab ac")
    assert not matches(group(regex("bc", negated=True)), b"abcd")
    assert matches(group(regex("b+", relative=False), Content(b"d", relative=True, span=1)), b"abbd")


@pytest.mark.parametrize("relative", [True, False])
def test_finds_a_last_expression_without_looking_for_all_its_matches(relative: bool) -> None:
    """Each match of this one looks at all that follows: all of them together at the square of the bytes."""
    data, began = b"x" + b"a" * 60_000, time.perf_counter()
    assert matches(group(Content(b"x"), regex("a.*z|a", relative=relative)), data)
    assert time.perf_counter() - began < 0.5


def test_too_many_places_to_try_an_expression_at_are_refused() -> None:
    with pytest.raises(LimitHit, match="rule_places"):
        matches(group(Content(b"a"), behind("b")), b"a" * 2000 + b"xb")
