"""Text from elsewhere: shown as it is, but for what a terminal would obey."""

import json

import pytest

from gateway.events.plain import escaped, escaped_lines, shortened

OBEYED = ["\x1b[2J", "a\rb", "a\nb", "a\tb", "\x9b31m", "\x7f", "\x00", "a\u2028b", "\u202eexe", "\ud800"]


@pytest.mark.parametrize("text", OBEYED)
def test_rejects_what_a_terminal_obeys(text: str) -> None:
    line = escaped(text)
    assert line.isprintable()
    assert json.loads(f'"{line}"') == text


@pytest.mark.parametrize("text", ["", "web/db: ok", "Grüße, 你好　世界 🦊", "a\\b", "'\"", "नमस्ते", "می‌خواهم"])
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert escaped(text) == escaped_lines(text) == text


def test_line_breaks_of_our_own_stay_and_a_lone_return_does_not() -> None:
    assert escaped_lines("one\n\ttwo\r\nthree") == "one\n\ttwo\r\nthree"
    assert escaped_lines("ok\rNOT\x1b[1A\n") == "ok\\u000dNOT\\u001b[1A\n"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert shortened("x" * 10, 10) == "x" * 10
    assert shortened("x" * 9 + "\n" * 9, 10) == "x" * 9 + "\\… (53 more characters)"
