"""Read files of rules: a header and options for each, as they are written. What they mean is `compile`'s business."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_HEADER: Final = (
    "action",
    "protocol",
    "source",
    "source port",
    "direction",
    "destination",
    "destination port",
)
ACTIONS: Final = ("alert", "drop", "reject", "rejectsrc", "rejectdst", "rejectboth", "pass")
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*")
_BLANK: Final = " \t"


class RuleError(ValueError):
    """A rule that can't be read: where (line and column count from 1) and what was expected."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(f"{line}:{column}: {message}")
        self.line, self.column, self.message = line, column, message


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `value` as it stands between colon and semicolon, None without a colon."""

    keyword: str
    value: str | None
    line: int
    column: int

    def error(self, message: str) -> RuleError:
        """Return an error that points here."""
        return RuleError(self.line, self.column, f"{self.keyword}: {message}")


@dataclass(frozen=True, slots=True)
class RawRule:
    """One rule as it is written. Addresses and ports are texts yet."""

    action: str
    protocol: str
    source: str
    source_port: str
    arrow: str
    destination: str
    destination_port: str
    options: tuple[Option, ...]
    line: int

    def value(self, keyword: str) -> str | None:
        """Return the value of an option's first appearance."""
        return next((one.value for one in self.options if one.keyword == keyword), None)


class _Text:
    """A rule's characters, each with its place in the file; backslash and line end join lines."""

    def __init__(self, first_line: int, lines: list[str]) -> None:
        self.text = "".join(lines)
        self._starts: list[tuple[int, int]] = []
        at = 0
        for number, line in enumerate(lines, first_line):
            self._starts.append((at, number))
            at += len(line)

    def error(self, at: int, message: str) -> RuleError:
        return RuleError(*self.place(at), message)

    def place(self, at: int) -> tuple[int, int]:
        """Return line and column."""
        start, line = max(one for one in self._starts if one[0] <= at)
        return line, at - start + 1


def read_rules(text: str) -> Iterator[RawRule | RuleError]:
    """Yield every rule of a file in order, or why it can't be read; comments and empty lines are skipped."""
    for first, lines in _joined(text):
        joined = _Text(first, lines)
        if not joined.text.strip() or joined.text.lstrip().startswith("#"):
            continue
        try:
            yield _rule(joined)
        except RuleError as error:
            yield error


def _joined(text: str) -> Iterator[tuple[int, list[str]]]:
    first, lines = 1, list[str]()
    for number, written in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = written.removesuffix("\r")
        comment = not lines and line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            lines.append(line[:-1] + " ")
            continue
        yield first, [*lines, line]
        first, lines = number + 1, []
    if lines:
        yield first, lines


def _rule(text: _Text) -> RawRule:
    words, at = [], 0
    for name in _HEADER:
        word, start, at = _word(text, at, name)
        _check_word(text, name, word, start)
        words.append(word)
    while at < len(text.text) and text.text[at] in _BLANK:
        at += 1
    if text.text[at : at + 1] != "(":
        raise text.error(at, f"expected ( and the options; got {text.text[at : at + 12]!r}")
    options = tuple(_options(text, at + 1))
    action, protocol, source, source_port, arrow, destination, destination_port = words
    return RawRule(
        action, protocol, source, source_port, arrow, destination, destination_port, options, text.place(0)[0]
    )


def _check_word(text: _Text, name: str, word: str, start: int) -> None:
    if name == "action" and word not in ACTIONS:
        raise text.error(start, f"expected an action ({', '.join(ACTIONS)}); got {word[:20]!r}")
    if name == "direction" and word not in {"->", "<>", "=>"}:
        raise text.error(start, f"expected -> or <>; got {word[:20]!r}")


def _word(text: _Text, at: int, name: str) -> tuple[str, int, int]:
    """Return the next word of the header: brackets keep blanks together."""
    body = text.text
    while at < len(body) and body[at] in _BLANK:
        at += 1
    start, depth = at, 0
    while at < len(body) and body[at] != "(" and (depth or body[at] not in _BLANK):
        depth += {"[": 1, "]": -1}.get(body[at], 0)
        if depth < 0 or body[at] == ";":
            raise text.error(at, f"{name}: {body[at]!r} has no place here")
        at += 1
    if depth:
        raise text.error(start, f"{name}: expected ] at the list's end")
    if at == start:
        raise text.error(at, f"expected the rule's {name}")
    return re.sub(r"\s+", "", body[start:at]), start, at


def _options(text: _Text, at: int) -> Iterator[Option]:
    body = text.text
    end = len(body.rstrip())
    if body[end - 1] != ")":
        raise text.error(end, "expected ) at the rule's end")
    end -= 1
    while True:
        while at < end and body[at] in _BLANK:
            at += 1
        if at >= end:
            return
        stop = _semicolon(text, at, end)
        yield _option(text, at, stop)
        at = stop + 1


def _semicolon(text: _Text, at: int, end: int) -> int:
    """Return where an option ends: Suricata wants every other semicolon escaped, in quotes as well."""
    place = at
    while place < end:
        if text.text[place] == "\\":
            place += 1
        elif text.text[place] == ";":
            return place
        place += 1
    raise text.error(at, "expected ; at the option's end")


def _option(text: _Text, at: int, stop: int) -> Option:
    line, column = text.place(at)
    keyword, colon, value = text.text[at:stop].partition(":")
    keyword = keyword.strip()
    if not _KEYWORD.fullmatch(keyword):
        raise RuleError(line, column, f"expected a keyword; got {keyword[:20]!r}")
    return Option(keyword, value.strip() if colon else None, line, column)


def quoted(option: Option, *, bare: bool = False) -> tuple[bool, str]:
    """Return whether a quoted value is negated, and what stands in the quotes; raises RuleError.

    bare: quotation marks inside need no backslash.
    """
    value = option.value or ""
    negated = value.startswith("!")
    value = value[1:].lstrip() if negated else value
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        raise option.error(f'expected "…", with every ; inside written \\;; got {value[:30]!r}')
    inner = value[1:-1]
    if not bare and _unescaped_quote(inner):
        raise option.error('a quotation mark inside is written \\"')
    return negated, inner


def _unescaped_quote(text: str) -> bool:
    at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == '"':
            return True
        at += 1
    return text.endswith("\\") and at > len(text)


def plain(text: str) -> str:
    """Undo the escapes of a quoted text: a message."""
    return re.sub(r"\\(.)", r"\1", text)


def content_bytes(option: Option, text: str) -> bytes:
    """Return the bytes of a content: text, hexadecimal between bars, escapes; raises RuleError."""
    found = bytearray()
    for number, part in enumerate(_bars(text)):
        if number % 2:
            digits = part.replace(" ", "")
            if len(digits) % 2 or not re.fullmatch(r"[0-9A-Fa-f]*", digits):
                raise option.error(
                    f"expected pairs of hexadecimal digits between the bars; got {part[:30]!r}"
                )
            found += bytes.fromhex(digits)
        else:
            found += _escaped(option, part)
    if len(_bars(text)) % 2 == 0:
        raise option.error("expected a closing |")
    if not found:
        raise option.error("expected at least one byte")
    return bytes(found)


def _bars(text: str) -> list[str]:
    """Split a text at its bars, those behind a backslash left alone."""
    parts, start = [], 0
    for sign in re.finditer(r"\\.|\|", text):
        if sign[0] == "|":
            parts.append(text[start : sign.start()])
            start = sign.end()
    return [*parts, text[start:]]


def _escaped(option: Option, text: str) -> bytes:
    if bad := re.search(r"\\[^;\\\":|]", re.sub(r"\\\\", "", text)):
        raise option.error(f'{bad[0]!r}: only ; \\ " : and | are escaped')
    return re.sub(r"\\(.)", r"\1", text).encode("utf-8", "surrogateescape")
