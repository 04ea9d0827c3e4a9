"""Files of rules, as they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.inspection.suricata.parser import RawRule, RuleError, content_bytes, quoted, read_rules


def one(text: str) -> RawRule:
    (found,) = read_rules(text)
    assert isinstance(found, RawRule), found
    return found


def broken(text: str) -> RuleError:
    (found,) = read_rules(text)
    assert isinstance(found, RuleError), found
    return found


def test_reads_a_header_and_its_options() -> None:
    found = one(
        'alert http [10.0.0.0/8, !10.0.0.1] any -> $HOME_NET [80,8080:8090] (msg:"a\\; b"; nocase; sid:7;)'
    )
    assert (found.action, found.protocol, found.source) == ("alert", "http", "[10.0.0.0/8,!10.0.0.1]")
    assert (found.destination, found.destination_port, found.arrow) == ("$HOME_NET", "[80,8080:8090]", "->")
    assert [(option.keyword, option.value) for option in found.options] == [
        ("msg", '"a\\; b"'), ("nocase", None), ("sid", "7"),
    ]  # fmt: skip


def test_a_backslash_joins_lines_and_places_stay_true() -> None:
    text = '# a comment\\\n\nalert tcp any any -> any any ( \\\r\n  content:"x"; \\\r\n   sid:1; )\r\n'
    found = one(text)
    assert found.line == 3
    assert [(option.line, option.column) for option in found.options] == [(4, 3), (5, 4)]


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("warn tcp any any -> any any (sid:1;)", 1, 1, "expected an action"),
        ("alert tcp any any <- any any (sid:1;)", 1, 19, "expected -> or <>"),
        ("alert tcp any any -> any (sid:1;)", 1, 26, "expected the rule's destination port"),
        ("alert tcp [any any -> any any (sid:1;)", 1, 11, "expected ]"),
        ("alert tcp any any -> any any sid:1;", 1, 30, "expected ("),
        ("alert tcp any any -> any any (sid:1;", 1, 37, "expected )"),
        ("alert tcp any any -> any any (sid:1)", 1, 31, "expected ;"),
        ("alert tcp any any -> any any (;sid:1;)", 1, 31, "expected a keyword"),
        ('\nalert tcp any any -> any any (content:"a;b"; sid:1;)', 2, 42, "expected a keyword"),
        ("alert", 1, 6, "expected the rule's protocol"),
    ],
)
def test_tells_where_a_rule_is_broken(text: str, line: int, column: int, says: str) -> None:
    found = broken(text)
    assert (found.line, found.column) == (line, column), found
    assert says in found.message


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("abc", b"abc"), ("a|0d 0A|b", b"a\r\nb"), ("|41|", b"A"), (r"a\;b\\c\"d\:e", b'a;b\\c"d:e'), ("a b", b"a b"), ("|de ad|x|be|", b"\xde\xadx\xbe"),
        ("é", "é".encode()), (r"a\\|41|", b"a\\A"), (r"a\|41\|", b"a|41|"), (r"\\\|b\\", b"\\|b\\"),
    ],
)  # fmt: skip
def test_reads_contents(value: str, data: bytes) -> None:
    option = one(f'alert tcp any any -> any any (content:!"{value}"; sid:1;)').options[0]
    negated, text = quoted(option)
    assert negated
    assert content_bytes(option, text) == data


@pytest.mark.parametrize("value", ["|4|", "|4g|", "|41", "a\\n", "", "a|41|b|"])
def test_refuses_bad_contents(value: str) -> None:
    option = one(f'alert tcp any any -> any any (content:"{value}"; sid:1;)').options[0]
    with pytest.raises(RuleError, match="content: "):
        content_bytes(option, quoted(option)[1])


@pytest.mark.parametrize("value", ["abc", '"abc', 'abc"', '"a"b"', '"', "! abc"])
def test_refuses_bad_quotes(value: str) -> None:
    option = one(f"alert tcp any any -> any any (content:{value}; sid:1;)").options[0]
    with pytest.raises(RuleError, match="content: "):
        quoted(option)


def test_files_of_other_systems_are_read() -> None:
    assert one("\ufeffalert tcp any any -> any any (sid:1;)\r\n").line == 1


WORDS = st.sampled_from(
    ["alert ", "tcp ", "any ", "-> ", "(", ")", ";", ":", '"', "\\", "|", "41", "!", "[", "]", ",", "$X", "content", "pcre", "/", "\n", "sid:1;"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(WORDS, max_size=30).map("".join)))
def test_any_text_is_rules_or_errors_with_places(text: str) -> None:
    lines = text.count("\n") + 1
    for found in read_rules(text):
        assert 1 <= found.line <= lines
        if isinstance(found, RuleError):
            assert found.column >= 1
            assert found.message
