"""Perl's expressions for RE2."""

import re
from dataclasses import replace

import pytest

from filters.inspection.matching.database import Expression
from filters.inspection.suricata.matching import matches
from filters.inspection.suricata.model import Content, Group, Unsupported
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
        (r"[^\]]x", "", b"ax", True), (r"\101", "", b"A", True), ("(?m)^b", "", b"a\nb", True), ("(?s:a.c)", "", b"a\nc", True),
    ],
)  # fmt: skip
def test_means_the_same_to_re2(body: str, flags: str, text: bytes, found: bool) -> None:
    expression = Expression(translate(body, flags)[0], caseless="i" in flags)
    assert (expression.search(text, 0) is not None) is found


VERTICAL, BLANK, WHITE = b"\n\x0b\x0c\r\x85", b"\t \xa0", b"\t\n\x0b\x0c\r "


@pytest.mark.parametrize(
    ("body", "these"),
    [
        (r"\v", VERTICAL), (r"[\v]", VERTICAL), (r"[^\v]", bytes(set(range(256)) - set(VERTICAL))), (r"\V", bytes(set(range(256)) - set(VERTICAL))),
        (r"\h", BLANK), (r"[\h]", BLANK), (r"\H", bytes(set(range(256)) - set(BLANK))), (r"\s", WHITE), (r"[\s]", WHITE), (r"\S", bytes(set(range(256)) - set(WHITE))),
        (r"\R", VERTICAL), (r"[\s\S]", bytes(range(256))), (r"[\\h]", b"\\h"), (r"[\\v\\s]", b"\\vs"), (r"[\\e[b]", b"\\[be"), (r"[\b]", b"\x08"), (r"[\e\x1]", b"\x01\x1b"),
        (r"[[:digit:]\[]", b"0123456789["), (r"[^[:^digit:]]", b"0123456789"), (r"[a\]^-]", b"a]^-"), (r"[\x41\102]", b"AB"),
    ],
)  # fmt: skip
def test_finds_the_same_bytes_as_pcre(body: str, these: bytes) -> None:
    expression = read_pcre(option(f'"/^{body}$/E"')).regex.expression
    assert [one for one in range(256) if expression.search(bytes([one]), 0)] == sorted(these)


@pytest.mark.parametrize(
    ("body", "flags", "text", "found"),
    [
        ("^b", "R", b"axb", False), ("^b", "R", b"ab", True), ("^b", "Rm", b"ab", True), ("^b", "Rm", b"ac\nb", True), ("(?:^b|^c)", "R", b"ac", True), ("^b|^c", "R", b"ac", True),
        ("^b|d", "R", b"axd", True), ("(?:^b|^c)", "R", b"axc", False), ("x*(^b)?c", "R", b"abc", True), (r"\Ab", "R", b"ab", True), ("b", "RA", b"ab", True), ("b", "RA", b"axb", False),
        ("[^b]c", "R", b"axxc", True), (r"\^b", "R", b"a^b", True), (r"\^b", "R", b"ab", False), ("^b", "R", b"ac ab", True),
    ],
)  # fmt: skip
def test_finds_a_start_at_the_place_behind_a_content(body: str, flags: str, text: bytes, found: bool) -> None:
    regex = read_pcre(option(f'"/{body}/{flags}"')).regex
    assert matches(Group("http.uri", (Content(b"a"), regex)), text) is found
    if text.count(b"a") == 1:
        assert matches(Group("http.uri", (Content(b"a"), replace(regex, negated=True))), text) is not found


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("(?=a)b", "a look-ahead"), ("(?!a)b", "a look-ahead"), ("(?<!a)b", "a look-behind"), ("(?<=a)b", "a look-behind"), (r"(a)\1", "a back-reference"), ("(?>a)b", "an atomic group"),
        ("a++b", "a possessive repetition"), ("a{1500}", "more than 1000"), ("(a", "missing"),
        ("(?m)a$", "$ together with (?m)"), ("(?im:a)$", "$ together with (?m)"), (r"\Qa$\E", r"\Q"), (r"[\H]", r"\H in brackets"), (r"[a\V]", r"\V in brackets"),
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
    assert read_pcre(option('"/^a|b/R"')).regex.at_place
    assert not read_pcre(option('"/^a/m"')).regex.at_place
    assert not read_pcre(option(r'"/[^a]\^/R"')).regex.at_place
    assert read_pcre(option('!"/a/"')).regex.negated
