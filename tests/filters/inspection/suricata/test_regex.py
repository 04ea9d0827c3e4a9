"""Perl's expressions for RE2."""

import re

import pytest

from filters.inspection.matching.database import Expression
from filters.inspection.suricata.model import Unsupported
from filters.inspection.suricata.parser import Option
from filters.inspection.suricata.regex import read_pcre, translate


def option(value: str) -> Option:
    return Option("pcre", value, 1, 1)


@pytest.mark.parametrize(
    ("body", "flags", "text", "found"),
    [
        ("a.c", "", b"a\nc", False), ("a.c", "s", b"a\nc", True), ("^b", "", b"a\nb", False), ("^b", "m", b"a\nb", True), ("b$", "", b"b\n", True), ("b$", "E", b"b\n", False),
        ("b$", "", b"b\nc", False), ("b$", "m", b"b\nc", True), ("b", "A", b"ab", False), ("A", "i", b"a", True), ("a b # c\n d", "x", b"abd", True), ("[ #]x", "x", b"#x", True),
        (r"\x2fa\x0", "", b"/a\0", True), (r"[\x41-\x43\/]", "", b"B", True), (r"[\h]b", "", b"\tb", True), (r"a\/b\;", "", b"a/b;", True), (r"a\Z", "", b"a\n", True),
        ("a(?#no)b", "", b"ab", True), ("[[a]", "", b"[", True), (r"\xff", "", b"\xff", True), ("é", "", "é".encode(), True), (r"[]a]", "", b"]", True), (r"a+?b", "G", b"aab", True),
        (r"[^\]]x", "", b"ax", True), (r"\101", "", b"A", True),
    ],
)  # fmt: skip
def test_means_the_same_to_re2(body: str, flags: str, text: bytes, found: bool) -> None:
    expression = Expression(translate(body, flags)[0], caseless="i" in flags)
    assert (expression.search(text, 0) is not None) is found


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("(?=a)b", "a look-ahead"), ("(?!a)b", "a look-ahead"), ("(?<!a)b", "a look-behind"), ("(?<=a)b", "a look-behind"), (r"(a)\1", "a back-reference"), ("(?>a)b", "an atomic group"),
        ("a++b", "a possessive repetition"), ("a{1500}", "more than 1000"), ("(a", "missing"),
    ],
)  # fmt: skip
def test_names_what_re2_can_not_do(body: str, why: str) -> None:
    with pytest.raises(Unsupported, match=re.escape(why)):
        read_pcre(option(f'"/{body}/"'))


def test_unknown_letters_and_captured_variables_are_named() -> None:
    with pytest.raises(Unsupported, match="the letter K"):
        read_pcre(option('"/a/K"'))
    with pytest.raises(Unsupported, match="captured variables"):
        read_pcre(option('"/(a)/, flow:x"'))


def test_knows_what_ends_and_begins_with_its_text() -> None:
    assert read_pcre(option('"/a$/"')).regex.looks_beyond
    assert read_pcre(option(r'"/a\b/"')).regex.looks_beyond
    assert not read_pcre(option(r'"/a[$\b]\$/"')).regex.looks_beyond
    assert read_pcre(option('"/^a/R"')).regex.at_start
    assert not read_pcre(option('"/^a|b/R"')).regex.at_start
    assert not read_pcre(option('"/^a/m"')).regex.at_start
    assert read_pcre(option('!"/a/"')).regex.negated
