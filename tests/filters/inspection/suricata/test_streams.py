"""Streams: what matches does not depend on how the bytes are cut, and is told with the byte that completes it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.inspection.suricata.matching import matches
from filters.inspection.suricata.model import BODIES, RAW, Group
from filters.inspection.suricata.segments import LONGEST
from filters.inspection.suricata.streams import KEPT, Part, StreamPlan, StreamWatch
from tests.filters.inspection.suricata.drive import rule, ruleset

LETTERS = st.sampled_from(["a", "b", "ab", "ba", "aab", "|00|", "Ab"])


def scan(options: str, pieces: list[bytes], *, ends: bool = False) -> tuple[int | None, Group]:
    """Return with which byte the first rule's part was told, and what it says."""
    (one,) = ruleset(rule(options)).rules
    (group,) = [group for group in one.groups if group.buffer == RAW or group.buffer in BODIES]
    watch = StreamWatch(StreamPlan([Part(one, group)]), lambda _rule: True)
    told, seen = [], 0
    for piece in pieces:
        seen += len(piece)
        told += [seen for _ in watch.scan(piece)]
    told += [seen for _ in watch.end()] if ends else []
    watch.close()
    assert len(told) <= 1
    return (told[0] if told else None), group


def bytes_of(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(one % (len(data) + 1) for one in places)})
    return [data[start:stop] for start, stop in pairwise(bounds)]


@st.composite
def contents(draw: st.DrawFn) -> str:
    """Options of contents that a stream can be searched for."""
    words: list[str] = []
    for number in range(draw(st.integers(1, 4))):
        word = f'content:"{draw(LETTERS)}";' + (" nocase;" if draw(st.booleans()) else "")
        kind = draw(st.sampled_from(["", "absolute", "after", "near"]))
        if kind == "absolute":
            word += f" offset:{draw(st.integers(0, 6))}; depth:{draw(st.integers(3, 8))};"
        elif kind == "after" and number:
            word += f" distance:{draw(st.integers(0, 4))};"
        elif kind == "near" and number:
            word += f" distance:{draw(st.integers(0, 3))}; within:{draw(st.integers(3, 7))};"
        words.append(word)
    return " ".join(words)


DATA = st.lists(st.sampled_from([b"a", b"b", b"A", b"\0", b"ab", b"aab", b"xxxx"]), max_size=14).map(b"".join)


@given(contents(), DATA, st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=800)
def test_a_stream_in_any_pieces_matches_what_its_bytes_match_as_a_whole(
    options: str, data: bytes, places: list[int]
) -> None:
    told, group = scan(options, cut(data, places))
    assert (told is not None) == matches(group, data)


@given(contents(), DATA)
@settings(max_examples=300)
def test_a_stream_is_told_with_the_first_byte_that_completes_it(options: str, data: bytes) -> None:
    told, group = scan(options, bytes_of(data))
    assert told == next((end for end in range(1, len(data) + 1) if matches(group, data[:end])), None)


EXPRESSIONS = [
    'content:"ab"; pcre:"/b.{0,3}a/";', 'content:"ab"; pcre:"/^x{0,4}a/R";', 'content:"a"; content:"b"; distance:1; pcre:"/a+b/Ri";', 'content:"ab"; pcre:"/^aab/";',
    'content:"ab"; pcre:"/^x|^b/R";', 'content:"a"; pcre:"/(?:^b|^x)+a/Rm";', 'content:"b"; pcre:"/(^|x)a[^x]/s";', 'content:"ab"; byte_test:1,>,96,1,relative;', 'content:"b"; isdataat:3,relative;', 'content:"ab"; content:"b"; distance:-3; within:6;',
]  # fmt: skip


@pytest.mark.parametrize("options", EXPRESSIONS)
@given(DATA, st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=150)
def test_expressions_in_streams_do_not_depend_on_pieces(options: str, data: bytes, places: list[int]) -> None:
    whole, pieces, single = (scan(options, one)[0] for one in ([data], cut(data, places), bytes_of(data)))
    assert (whole is None) == (pieces is None) == (single is None)
    assert single is None or scan(options, [data[:single]])[0] is not None


def test_contents_may_be_far_apart_and_in_any_order() -> None:
    gap = [b"." * 1000] * 1000
    assert scan('content:"one"; content:"two";', [b"two", *gap, b"one"])[0] == 1_000_006
    assert scan('content:"one"; content:"two"; distance:900000;', [b"one", *gap, b"two"])[0] == 1_000_006
    assert scan('content:"one"; content:"two"; distance:1000001;', [b"one", *gap, b"two"])[0] is None
    assert scan('content:"two"; content:"one"; distance:0;', [b"one", *gap, b"two"])[0] is None
    assert (
        scan('content:"two"; content:"one"; distance:0;', [b"one", *gap, b"two", *gap, b"one"])[0]
        == 2_000_009
    )


def test_an_expression_is_looked_for_beside_its_content_only() -> None:
    near, far = [b"word" + b"." * 400 + b"77"], [b"word" + b"." * 4000 + b"77"]
    assert scan('content:"word"; pcre:"/[0-9]{2}/";', near)[0] is not None
    assert scan('content:"word"; pcre:"/[0-9]{2}/";', far)[0] is None
    assert scan('content:"word"; pcre:"/[0-9]{2}/R";', near)[0] is not None


@pytest.mark.parametrize("pcre", ["/pw=[a-z]+/", "/pw=[a-z]+/R", "/^cmd.*pw=/s", "/=run&{600}/"])
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_finds_an_expression_of_a_body_far_from_its_content(pcre: str, size: int) -> None:
    options = f'http.request_body; content:"cmd=run"; pcre:"{pcre}";'
    data = b"cmd=run" + b"&" * 600 + b"pw=abc"
    assert scan(options, cut(data, list(range(0, 700, size))), ends=True)[0] == len(data)
    assert scan(options, [data.replace(b"pw", b"PW").replace(b"&", b"&.")], ends=True)[0] is None
    kept = 7 + KEPT if "600" in pcre else None  # what comes behind that is not seen
    assert scan(options, [b"cmd=run", b"&" * KEPT, b"pw=abc"], ends=True)[0] == kept


def test_finds_an_expression_of_a_body_near_its_content_at_once() -> None:
    options = 'http.request_body; content:"cmd=run"; pcre:"/pw=[a-z]{3}/";'
    assert scan(options, [b"cmd=run&pw=abc", b"and more"], ends=True)[0] == 14
    assert scan(options, [b"." * KEPT, b"cmd=run&pw=abc", b"and more"], ends=True)[0] == KEPT + 14


def test_no_expression_that_is_tried_place_by_place_refuses_a_long_body() -> None:
    options = 'file.data; content:"a"; pcre:"/^b/R";'
    assert scan(options, [b"a." * 20_000, b".b"], ends=True)[0] is None
    assert scan(options, [b"a." * 20_000, b"ab"], ends=True)[0] == 40_002


def test_what_keeps_beginning_costs_no_more_than_what_is_seen() -> None:
    """A chain that begins at every byte and never ends."""
    options = f'content:"aa"; content:"aab"; within:{LONGEST // 3}; content:"aac"; within:{LONGEST // 3};'
    assert scan(options, [b"a" * 1000] * 500)[0] is None
    assert scan(options, [b"a" * 1000] * 50 + [b"aab.aac"])[0] is not None


WHOLE = [
    ('file.data; content:"ab"; content:!"x";', b"..ab..", b"..ab..x"), ('file.data; content:"ab"; endswith;', b"..ab", b"..ab."), ('file.data; bsize:4;', b"abcd", b"abcde"),
    ('file.data; content:"a"; pcre:"/^ab$/";', b"ab", b"abc"), ('file.data; content:"ab"; isdataat:!1,relative;', b"..ab", b"..ab."), ('file.data; pcre:"/a.c/";', b"abc", b"ac"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "fits", "fits_not"), WHOLE)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_only_the_end_decides_is_told_at_the_end(
    options: str, fits: bytes, fits_not: bytes, size: int
) -> None:
    for data, wanted in ((fits, len(fits)), (fits_not, None)):
        assert scan(options, cut(data, list(range(0, 200, size))), ends=True)[0] == wanted


LONG = b"." * (KEPT - 2)


@pytest.mark.parametrize(
    ("options", "data", "told"),
    [
        (f"file.data; bsize:{KEPT};", LONG + b"ab", KEPT), (f"file.data; bsize:{KEPT};", LONG + b"abc", None), ("file.data; bsize:100000;", LONG * 2, None),
        (f"file.data; bsize:{2 * len(LONG)};", LONG * 2, 2 * len(LONG)), ("file.data; bsize:>100000;", LONG * 2, 2 * len(LONG)), ("file.data; bsize:<100000;", LONG + LONG, None),
        ("file.data; bsize:<100000;", LONG + b"abc", KEPT + 1), ("file.data; bsize:>9;", LONG + b"abc" + LONG, KEPT + 1), ("file.data; bsize:!9;", LONG + b"abc" + LONG, KEPT + 1),
        ('file.data; content:"ab"; endswith;', LONG + b"ab", KEPT), ('file.data; content:"ab"; endswith;', LONG + b"abc", None), ('file.data; content:"ab"; pcre:"/ab$/";', LONG + b"ab", KEPT),
        ('file.data; content:"ab"; pcre:"/ab$/";', LONG + b"abc", None), ('file.data; content:"ab"; pcre:"/ab$/";', LONG + b"ab" + LONG, None),
        ('file.data; content:"ab"; isdataat:!1,relative;', LONG + b"abc", None), ('file.data; content:"ab"; isdataat:!1,relative;', LONG + b"ab", KEPT),
        ('file.data; content:"ab"; content:!"x"; bsize:100000;', b"ab" + LONG + b"." * (100_000 - KEPT), 100_000), ('file.data; content:"ab"; content:!"x"; bsize:100000;', b"ab" + LONG * 2, None),
    ],
)  # fmt: skip
def test_what_a_long_body_ends_with_and_its_size_are_those_of_the_whole(
    options: str, data: bytes, told: int | None
) -> None:
    for size in (1000, 5000, KEPT, len(data)):
        found = scan(options, cut(data, [*range(0, len(data), size), *range(KEPT, KEPT + 2)]), ends=True)[0]
        assert found == told, size


def test_a_long_body_ends_for_such_parts_after_what_is_kept() -> None:
    options = 'file.data; content:"ab"; content:!"x";'
    assert scan(options, [b"ab", b"." * (KEPT - 3), b"..x"], ends=True)[0] == KEPT + 2
    assert scan(options, [b"ab", b"." * (KEPT - 3), b"x."], ends=True)[0] is None


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ('content:"aaaa"; content:"b"; distance:50; within:60;', b"aaaa" + b"." * 109 + b"b"),
        ('content:"b"; content:"aaaa"; distance:50; within:60;', b"b" + b"." * 106 + b"aaaa"),
        ('content:"aaaa"; content:"b"; distance:-90; within:20;', b"b" + b"." * 85 + b"aaaa"),
        ('content:"aaaa"; isdataat:40,relative;', b"aaaa" + b"." * 40),
        ('content:"aaaa"; byte_test:1,=,98,30,relative;', b"aaaa" + b"." * 30 + b"b"),
    ],
)  # fmt: skip
def test_what_just_reaches_is_reached_over_any_split(options: str, data: bytes) -> None:
    for split in range(len(data)):
        told, group = scan(options, [b"." * 3000, data[:split], data[split:], b"." * 3000])
        assert told is not None, split
        assert matches(group, b"." * 3000 + data)


def test_the_beginning_of_what_is_kept_is_not_the_beginning_of_the_stream() -> None:
    options = 'content:"word"; pcre:"/(^|x)a/";'
    assert scan(options, [b"a" * 3000 + b"word" + b"a" * 1100, b".", b"."])[0] is None
    assert scan(options, [b"a" + b"." * 400 + b"word"])[0] is not None
