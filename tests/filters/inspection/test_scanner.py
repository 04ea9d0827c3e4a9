"""Patterns in streams: found once, at every cut."""

import re
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from filters.inspection.coding.wide import begins_wide
from filters.inspection.matching.database import LONGEST_WORD, Database, PatternError, Words
from filters.inspection.matching.scanner import Match, Scanner
from filters.inspection.patterns.load import parse_patterns, secrets
from filters.inspection.patterns.pattern import END, REACH, WORD, Pattern, redact, without_ends
from filters.inspection.patterns.personal import PERSONAL

DATABASE = Database((*secrets(), *PERSONAL))
TOKEN = b"glpat-" + b"aB3dE6gH9jK2mN5pQ8sT"


def scan(pieces: list[bytes], database: Database = DATABASE) -> list[Match]:
    scanner = Scanner(database)
    found = [one for piece in pieces for one in scanner.scan(piece)]
    scanner.close()
    return found


@given(st.binary(max_size=2000), st.binary(max_size=2000), st.lists(st.integers(0, 5000), max_size=12))
def test_a_token_is_told_once_with_the_piece_that_completes_it(
    before: bytes, after: bytes, cuts: list[int]
) -> None:
    assume(not begins_wide(before + b" "))  # then it is looked through twice, and told of each
    text = before + b" " + TOKEN + b" " + after
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    found = scan([text[start:stop] for start, stop in pairwise(places)])
    mine = [one for one in found if one.pattern.id == "gitlab-token" and one.text == TOKEN]
    assert len(mine) == 1
    assert mine[0].end == len(before) + 1 + len(TOKEN)


def scan_all(pieces: list[bytes], database: Database) -> list[Match]:
    """Scan a stream that ends: what was in doubt is told then."""
    scanner = Scanner(database)
    found = [one for piece in pieces for one in scanner.scan(piece)]
    scanner.close()
    return [*found, *([scanner.doubtful] if scanner.doubtful else [])]


@pytest.mark.parametrize("head", ["", "keywords = ['TOP']\n"])
@pytest.mark.parametrize(
    ("expression", "inside", "outside"),
    [
        ("^TOP [A-Z]{6}$", [b"TOP SECRET", b"a\nTOP SECRET\nb"], [b"TOP SECRETS\n", b"x TOP SECRET\n"]),
        ("^TOP [A-Z]{6}", [b"TOP SECRET", b"a\nTOP SECRETb"], [b"x TOP SECRET"]),
        ("TOP [A-Z]{6}$", [b"x TOP SECRET", b"x TOP SECRET\nb"], [b"TOP SECRETS\n"]),
        (r"TOP [A-Z]{6}\z", [b"x TOP SECRET"], [b"TOP SECRET\n", b"TOP SECRETS"]),
        (r"TOP [A-Z]{6}\B", [b"TOP SECRETx"], [b"TOP SECRET x", b"TOP SECRET"]),
        ("TOP [A-Z]{6}(?:[^A-Z]|$)", [b"TOP SECRET", b"TOP SECRET;x"], [b"TOP SECRETS;"]),
        (r"TOP(?:[0-9]\b|[A-Z]\b)", [b"TOPA", b"TOP1 x"], [b"TOPAB", b"TOP12"]),
        (r"TOP\$[$^]\Q$\E", [b"xTOP$^$x"], [b"TOP", b"TOP$"]),
    ],
)
def test_bounds_of_lines_and_words_hold_in_every_line_at_every_split(
    head: str, expression: str, inside: list[bytes], outside: list[bytes]
) -> None:
    database = Database(
        parse_patterns(f"[[pattern]]\nid='x'\n{head}expression='{expression}'", "patterns", "m")
    )
    for text in (*inside, *outside):
        for cut in range(len(text) + 1):
            found = scan_all([text[:cut], text[cut:]], database)
            assert len(found) == (text in inside), (text, cut)
        assert len(scan_all([text[at : at + 1] for at in range(len(text))], database)) == (text in inside)


def test_a_token_that_goes_on_in_the_next_piece_is_none() -> None:
    """Sixty signs and no more: what a piece ends with may be the beginning of a line of base64."""
    token = b"EAAAE" + b"aB3dE6gH9jK2mN5pQ8sTvW1xY4zC7fJ0aB3dE6gH9jK2mN5pQ8sTvW1xY4z"
    for text, count in ((b"x " + token + b" y", 1), (b"x " + token + b"mmm y", 0), (b"x " + token, 1)):
        for cut in range(len(text) + 1):
            found = scan_all([text[:cut], text[cut:]], DATABASE)
            assert len(found) == count, cut


def test_an_expression_that_may_match_nothing_ends_its_search() -> None:
    database = Database(
        parse_patterns("[[pattern]]\nid='x'\nkeywords=['TOP']\nexpression='(?:TOP-[0-9])?'", "patterns", "m")
    )
    for text, count in ((b"TOP", 0), (b"TOP-", 0), (b"", 0), (b"TOP-1 TOP", 1)):
        assert len(scan_all([text], database)) == count


SHIPPED = {one.name: one for one in (*secrets(), *PERSONAL)}


@cache
def alone(name: str) -> Database:
    return Database((SHIPPED[name],))


@cache
def examples(name: str) -> st.SearchStrategy[bytes]:
    body = SHIPPED[name].expression.replace(WORD, b"").replace(END, b"")
    return st.from_regex(re.compile(body, re.MULTILINE), fullmatch=True)


@given(st.data())
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_shipped_pattern_finds_the_same_at_every_cut(data: st.DataObject) -> None:
    """With what looks like it before and behind it, and more of its own signs."""
    name = data.draw(st.sampled_from(sorted(SHIPPED)))
    example = data.draw(examples(name))
    around = st.sampled_from(
        (b"", b" ", b"\n", b'"', b"aB9", b"-", example[:-1], example[:5] + b" ", b" " * 600)
    )
    text = data.draw(around) + example + data.draw(around)
    cuts = sorted({0, len(text), *data.draw(st.lists(st.integers(1, len(text)), max_size=4))})
    whole = {one.end - len(one.text) for one in scan_all([text], alone(name))}
    cut = {one.end - len(one.text) for one in scan_all([text[a:b] for a, b in pairwise(cuts)], alone(name))}
    assert cut == whole


@pytest.mark.parametrize(
    ("expression", "loose"),
    [(rb"^a$", rb"^a(?:)"), (rb"\ba\bb|c\z", rb"\ba(?:)b|c(?:)"), (rb"[]$^]\$\\$", rb"[]$^]\$\\(?:)"), (rb"\Q$\E[[:^alpha:]$]$?", rb"\Q$\E[[:^alpha:]$](?:)?")],
)  # fmt: skip
def test_takes_the_ends_out_of_an_expression_and_nothing_else(expression: bytes, loose: bytes) -> None:
    assert without_ends(expression) == loose


class NaiveScanner(Scanner):
    """Keeps every hit of the first stage by itself."""

    def _hit(self, number: int, end: int) -> None:
        self.struck = True
        self._open.setdefault(number, []).append((end, end))


OVERLAPPING = Database(
    (
        Pattern("many", "patterns", rb"\bab{0,40}c\b", (b"a", b"b")), Pattern("far", "patterns", rb"aaa[^a]{20,400}c", (b"aaa",)),
        Pattern("end", "patterns", rb"b{3}$"), Pattern("case", "patterns", rb"bca?", (b"b",), caseless=True),
    )
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"ab", b"c ", b"-"]), st.integers(1, 700)), max_size=12),
    st.lists(st.integers(0, 4000), max_size=20),
    st.booleans(),
)
def test_keeping_the_ends_of_near_hits_loses_no_match(
    runs: list[tuple[bytes, int]], cuts: list[int], tiny: bool
) -> None:
    text = b"".join(piece * count for piece, count in runs)
    places = sorted(
        {min(cut, len(text)) for cut in cuts} | {0, len(text)} | set(range(min(len(text), 60) * tiny))
    )
    kept, naive = Scanner(OVERLAPPING), NaiveScanner(OVERLAPPING)
    for start, stop in pairwise(places):
        told, expected = kept.scan(text[start:stop]), naive.scan(text[start:stop])
        assert sorted(told, key=repr) == sorted(expected, key=repr)
        assert (kept.doubtful is None) == (naive.doubtful is None)


def test_keeps_little_of_bytes_that_are_all_keywords() -> None:
    scanner = Scanner(DATABASE)
    for _ in range(600):
        scanner.scan(b":")
        scanner.scan(b"A" * 1000)
    assert sum(map(len, scanner._open.values())) <= 2


def test_repeated_tokens_are_each_told() -> None:
    assert len([one for one in scan([(TOKEN + b" ") * 50]) if one.pattern.id == "gitlab-token"]) == 50


def test_a_pattern_longer_than_reach_is_found_as_far_as_reach() -> None:
    long = Pattern("long", "patterns", rb"begin[a-z]{10,}", (b"begin",))
    found = scan([b"begin", b"a" * REACH, b"b" * 10_000], Database((long,)))
    assert found[0].text.startswith(b"beginaaaaaaaaaa")


def test_keywords_of_a_caseless_pattern_are_caseless() -> None:
    database = Database((Pattern("x", "patterns", rb"secret-[0-9]{4}", (b"secret-",), caseless=True),))
    assert [one.text for one in scan([b"SeCrEt-1234"], database)] == [b"SeCrEt-1234"]


@pytest.mark.parametrize("expression", [rb"(", rb"a{3,2}", rb"[z-a]"])
def test_names_the_pattern_that_does_not_compile(expression: bytes) -> None:
    with pytest.raises(PatternError, match="mine"):
        Database((Pattern("fine", "patterns", b"abc"), Pattern("mine", "patterns", expression)))


def test_rejects_a_word_that_is_longer_than_the_engine_takes() -> None:
    Words([(bytes(LONGEST_WORD), True)])
    with pytest.raises(PatternError, match="2 words together: Pattern length"):
        Words([(b"a", False), (bytes(LONGEST_WORD + 1), False)])


def test_no_pattern_makes_the_second_stage_slow() -> None:
    """Nested repetitions are linear with RE2: this would take a backtracking engine longer than the universe has."""
    database = Database((Pattern("nested", "patterns", rb"(a+)+(b+)+c", (b"aaaa",)),))
    assert scan([b"a" * 400 + b"b" * 400 + b"d"], database) == []


def test_redaction_shows_only_the_ends() -> None:
    assert redact(TOKEN) == "glpa…sT (26 bytes)"
    assert redact(b"short") == "***** (5 bytes)"


def test_what_only_the_next_byte_decides_is_doubtful_until_then() -> None:
    card = b"pay 4111111111111111"
    scanner = Scanner(DATABASE)
    assert list(scanner.scan(card)) == []
    assert scanner.doubtful is not None
    assert list(scanner.scan(b"2345678")) == []  # a longer number, and no card's
    assert scanner.doubtful is None
    scanner = Scanner(DATABASE)
    assert list(scanner.scan(card)) == []
    assert [one.pattern.id for one in scanner.scan(b" ")] == ["payment-card"]
