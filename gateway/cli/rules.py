"""`quotegate rules check`: how much of files of Suricata rules the inspectors can use, or use in part, and what stops the rest."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from filters.inspection.suricata.ruleset import Coverage, LeftOut, load_rules
from gateway.cli.exits import EXIT_FOUND, EXIT_OK
from gateway.cli.output import say, show_json
from gateway.errors import GatewayError

_SHOWN = 20
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(\S.*)")


def check(arguments: argparse.Namespace) -> int:
    """Print the coverage; exit 4 when a rule is unsupported or broken."""
    texts = [(str(path), read_rules_text(path)) for path in arguments.files]
    _, coverage = load_rules(texts, variables(arguments.var))
    if arguments.json:
        show_json(_as_json(coverage))
    else:
        _tell(coverage)
    return EXIT_OK if coverage.is_complete else EXIT_FOUND


def read_rules_text(path: Path) -> str:
    """Return a file's text; raises GatewayError."""
    try:
        return path.read_text(errors="surrogateescape")
    except OSError as error:
        raise GatewayError("unreadable", f"{path}: {error.strerror or error}") from error


def variables(words: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE words; raises GatewayError."""
    found = {}
    for word in words:
        match = _VARIABLE.fullmatch(word.removeprefix("$"))
        if not match:
            raise GatewayError(
                "bad-variable", f"--var: expected NAME=VALUE, as HOME_NET=10.0.0.0/8; got {word!r}"
            )
        found[match[1]] = match[2]
    return found


def _tell(coverage: Coverage) -> None:
    for one in coverage.broken:
        say(f"{one.path}:{one.line}:{one.column}: error: {_printable(one.detail)}")
    for one in coverage.unsupported[:_SHOWN]:
        say(f"{one.path}:{one.line}: sid {one.sid}: unsupported: {one.keyword}: {_printable(one.detail)}")
    if len(coverage.unsupported) > _SHOWN:
        say(f"and {len(coverage.unsupported) - _SHOWN} more unsupported rules (--json lists all)")
    for one in coverage.in_part[:_SHOWN]:
        say(f"{one.path}:{one.line}: sid {one.sid}: in part: {one.keyword}: {_printable(one.detail)}")
    if len(coverage.in_part) > _SHOWN:
        say(f"and {len(coverage.in_part) - _SHOWN} more in part (--json lists all)")
    if coverage.unsupported:
        counted = ", ".join(f"{_printable(word)} {count}" for word, count in coverage.keywords.most_common())
        say(f"unsupported, by what stopped them: {counted}")
    if coverage.assumed:
        say(assumed_text(coverage))
    partly = len({(one.path, one.line) for one in coverage.in_part})
    loaded = f"{coverage.loaded} rules loaded" + (f" ({partly} of them in part)" if partly else "")
    say(f"{loaded}, {len(coverage.unsupported)} unsupported, {len(coverage.broken)} with errors")


def assumed_text(coverage: Coverage) -> str:
    """Say which variables nobody set."""
    return f"variables taken as any: {', '.join(sorted(coverage.assumed))} (set them: --var NAME=VALUE)"


def _as_json(coverage: Coverage) -> dict[str, object]:
    return {
        "loaded": coverage.loaded,
        "in_part": [_one(one) for one in coverage.in_part],
        "unsupported": [_one(one) for one in coverage.unsupported],
        "by_keyword": dict(coverage.keywords.most_common()),
        "errors": [_one(one) for one in coverage.broken],
        "variables_taken_as_any": sorted(coverage.assumed),
    }


def _one(one: LeftOut) -> dict[str, object]:
    return {
        "file": one.path,
        "line": one.line,
        "column": one.column,
        "sid": int(one.sid) if one.sid.isdecimal() and one.sid.isascii() and len(one.sid) < 19 else None,
        "keyword": _printable(one.keyword) or None,
        "detail": _printable(one.detail),
    }


def _printable(text: str) -> str:
    """Return text without what a file's bad bytes or control characters would do to a terminal or to JSON."""
    return "".join(one if one.isprintable() else "?" for one in text)
