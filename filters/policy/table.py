"""Read one TOML table strictly: known keys only, right types, errors with file, line and a suggestion."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from filters.errors import PolicyError
from filters.suggestion import suggestion

T = TypeVar("T")
LONGEST = 1000  # of a message: the longest list of what is expected fits
_HEADER = re.compile(r"[ \t]*\[\[?([^\[\]]+)\]")
_NOT_PLAIN = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class Source:
    """The policy's text, to say where something stands."""

    file: str
    lines: tuple[str, ...]
    headers: Mapping[str, list[int]]

    @classmethod
    def of(cls, text: str, file: str) -> "Source":
        """Split a text at TOML's own line ends and note where each table begins."""
        lines = tuple(text.split("\n"))
        headers: dict[str, list[int]] = {}
        for number, line in enumerate(lines, 1):
            if match := _HEADER.match(line):
                name = ".".join(part.strip(" \t\"'") for part in match[1].split("."))
                headers.setdefault(name, []).append(number)
        return cls(file, lines, headers)

    def header_line(self, header: str, occurrence: int = 0, otherwise: int = 1) -> int:
        """Find the line (from 1) of the n-th `[header]` or `[[header]]`."""
        found = self.headers.get(header, [])
        return found[occurrence] if occurrence < len(found) else otherwise

    def child_line(self, path: str, line: int, key: str) -> int:
        """Find where a table inside the one at `path` begins: at its own header, its key, or the first header inside it.

        What belongs to one `[[path]]` stands before the next; of a `[path]` it may stand anywhere.
        """
        own = f"{path}.{key}".removeprefix(".")
        found = self.headers.get(own, [])
        siblings = self.headers.get(path, [])
        if len(siblings) > 1:
            end = next((one for one in siblings if one > line), len(self.lines) + 1)
            found = [one for one in found if line < one < end]
        if found:
            return found[0]
        at = self.key_position(path, line, key)[0]
        inside = (lines[0] for name, lines in self.headers.items() if name.startswith(f"{own}."))
        return at if at != line or len(siblings) > 1 else next(inside, at)

    def key_position(self, path: str, table_line: int, key: str) -> tuple[int, int]:
        """Find line and column of a key in the table at `path` that begins at a line; that line where not found."""
        if len(key) > LONGEST:
            return table_line, 1
        parents = ""  # the key may stand with as many of its parents' names as its place leaves open
        for part in path.split(".") if path else ():
            parents = rf"(?:{parents}{_quoted(part)}\s*\.\s*)?"
        written = rf"{parents}(?P<key>{_quoted(key)})\s*[=.]"
        first, inline = re.compile(rf"[\s{{,]*{written}"), re.compile(rf"[{{,]\s*{written}")
        for number in range(table_line, len(self.lines) + 1):
            line = self.lines[number - 1]
            if number > table_line and line.lstrip().startswith("["):
                break
            if match := first.match(line) or inline.search(line):
                return number, match.start("key") + 1
        return table_line, 1

    def error(self, code: str, message: str, line: int, column: int = 1) -> PolicyError:
        """Build the error for this place. What came is shown in ASCII, for other letters look alike, and not at any length."""
        shown = _NOT_PLAIN.sub(lambda found: found[0].encode("unicode_escape").decode(), message)
        if len(shown) > LONGEST:
            shown = f"{shown[: LONGEST // 2]} ... {shown[-LONGEST // 2 :]}"
        return PolicyError(
            code, f"{self.file}:{line}:{column}: {shown}", file=self.file, line=line, column=column
        )


def _quoted(key: str) -> str:
    return rf"""(?:"{re.escape(key)}"|'{re.escape(key)}'|{re.escape(key)})"""


class Table:
    """One table being read; call `finish` to refuse what nobody asked for."""

    def __init__(
        self, source: Source, find_line: Callable[[], int], path: str, data: object, name: str = ""
    ) -> None:
        """path: its keys, as a header would name it; name: as messages do, where that is something else."""
        self.source, self.path, self.name = source, path, name or path
        self._find_line = find_line
        if not isinstance(data, dict):
            message = f"{self.name}: expected a table, got {_type_name(type(data))}"
            raise source.error("wrong-type", message, self.line)
        self._data: Mapping[str, Any] = data
        self._known: set[str] = set()

    @cached_property
    def line(self) -> int:
        """Where it begins; looked for when somebody asks, which in most tables nobody does."""
        return self._find_line()

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Return the value of a key; a missing one without default is an error."""
        self._known.add(key)
        if key not in self._data:
            if default is None:
                self._refuse_misspelt(key)
                raise self.error("missing-key", key, f"{self.name}: `{key}` is missing; add {key} = ...")
            return default
        value = self._data[key]
        if type(value) is not kind:
            raise self.error(
                "wrong-type",
                key,
                f"{self.name}: `{key}` must be {_type_name(kind)}, got {_type_name(type(value))}",
            )
        return value

    def _refuse_misspelt(self, key: str) -> None:
        close = difflib.get_close_matches(key, [name for name in self._data if name not in self._known], n=1)
        if close:
            message = f"{self.name}: unknown key `{close[0]}`; did you mean {key}?"
            raise self.error("unknown-key", close[0], message)

    def has(self, key: str) -> bool:
        """Tell whether the key is there; one that may be there is known."""
        self._known.add(key)
        return key in self._data

    def holds_list(self, key: str) -> bool:
        """Tell whether the key's value is a list."""
        return isinstance(self._data.get(key), list)

    def parse(self, key: str, parser: Callable[[str], T], default: str | None = None) -> T:
        """Read a text value by a parser that raises ValueError."""
        try:
            return parser(self.take(key, str, default))
        except ValueError as error:
            raise self.error("bad-value", key, f"{self.name}: `{key}`: {error}") from None

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """Read one of a few words."""
        value = self.take(key, str, default)
        if value not in allowed:
            hint = suggestion(value, allowed)
            raise self.error(
                "bad-value",
                key,
                f"{self.name}: `{key}` must be one of {', '.join(allowed)}; got {value!r}{hint}",
            )
        return value

    def texts(self, key: str, default: list[str] | None = None) -> list[str]:
        """Read a list of texts."""
        values = self.take(key, list, default)
        if not all(isinstance(value, str) for value in values):
            raise self.error("wrong-type", key, f"{self.name}: `{key}` must be a list of texts")
        return values

    def parse_all(self, key: str, parser: Callable[[str], T], default: list[str] | None = None) -> list[T]:
        """Read a list of texts by a parser that raises ValueError."""
        try:
            return [parser(text) for text in self.texts(key, default)]
        except ValueError as error:
            raise self.error("bad-value", key, f"{self.name}: `{key}`: {error}") from None

    def table(self, key: str) -> "Table":
        """Read a table inside this one."""
        return self.child(key, self.take(key, dict))

    def child(self, key: str, data: object) -> "Table":
        """Return what stands under a key of this table as a table; raises PolicyError where it is none."""
        path, name = f"{self.path}.{key}".removeprefix("."), f"{self.name}.{key}" if self.path else key
        return Table(self.source, lambda: self.source.child_line(self.path, self.line, key), path, data, name)

    def items(self) -> list[tuple[str, Any]]:
        """Return all entries: their keys are names, not keywords."""
        self._known |= set(self._data)
        return list(self._data.items())

    def finish(self) -> None:
        """Refuse unknown keys."""
        for key in self._data:
            if key not in self._known:
                hint = suggestion(key, sorted(self._known))
                raise self.error("unknown-key", key, f"{self.name}: unknown key `{key}`{hint}")

    def error(self, code: str, key: str, message: str) -> PolicyError:
        """Build the error for a key of this table."""
        return self.source.error(code, message, *self.source.key_position(self.path, self.line, key))


def _type_name(kind: type) -> str:
    names = {
        str: "a text",
        int: "a whole number",
        bool: "true or false",
        list: "a list",
        dict: "a table",
        float: "a number",
    }
    return names.get(kind, kind.__name__)
