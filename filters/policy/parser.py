"""Parse a policy file (TOML, schema 1; docs/policy.md). Any input gives a Policy or a PolicyError."""

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from functools import partial

from filters.policy.expectations import parse_test
from filters.policy.identities import parse_peer, parse_profile
from filters.policy.model import Peer, Policy, Rule
from filters.policy.rules import parse_rule
from filters.policy.table import Source, Table

SCHEMA = 1
MAX_TEXT = 2 << 20  # 5000 rules are 0.7 MB
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
RESERVED = ("any",)
# tomllib's memory grows with the square of a dotted key's parts: 400 KB of them exhaust any machine.
MAX_DOTS = 32


def parse_policy(text: str, file: str = "policy.toml") -> Policy:
    """Parse and resolve a policy; raises PolicyError with file, line, column and what to do."""
    if len(text) > MAX_TEXT:
        raise Source.of("", file).error("too-large", f"the policy is larger than {MAX_TEXT} characters", 1)
    source = Source.of(text, file)
    digest = hashlib.sha256(_utf8(text, source)).hexdigest()
    top = Table(source, lambda: 1, "", _toml(text, source), "policy")
    schema = top.take("schema", int)
    if schema != SCHEMA:
        raise top.error(
            "unknown-schema", "schema", f"schema {schema} is not known here; expected schema = {SCHEMA}"
        )
    profiles = {name: parse_profile(table) for name, table in _named(top, "profile")}
    places = dict(_named(top, "peer"))
    peers = {name: parse_peer(name, table, profiles) for name, table in places.items()}
    _check_unique(peers, places)
    rules = tuple(parse_rule(table, peers) for table in _listed(top, "rule"))
    _check_rule_ids(rules, source)
    tests = tuple(parse_test(table, peers) for table in _listed(top, "test"))
    top.finish()
    return Policy(digest, peers, profiles, rules, tests)


def _utf8(text: str, source: Source) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise source.error("not-toml", "not TOML: a character is not valid Unicode", line) from None


def _toml(text: str, source: Source) -> dict[str, object]:
    for at, written in enumerate(source.lines, 1):
        if written.count(".") > MAX_DOTS and not written.lstrip().startswith("#"):
            raise source.error("not-toml", f"more than {MAX_DOTS} dots in a line: break it up", at)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+), column (\d+)", str(error))
        line, column = (int(place[1]), int(place[2])) if place else (max(1, len(source.lines)), 1)
        raise source.error(
            "not-toml", f"not TOML: {error}{_strange(source, line, column)}", line, column
        ) from None
    except RecursionError:
        raise source.error("not-toml", "not TOML: nested too deeply", 1) from None
    except ValueError as error:  # tomllib lets Python's own limit on the digits of a number through
        raise source.error("not-toml", f"not TOML: {error}", 1) from None


def _strange(source: Source, line: int, column: int) -> str:
    """Name the character at a place where an editor shows nothing, or what it should be and is not."""
    found = source.lines[line - 1][column - 1 : column] if line <= len(source.lines) else ""
    if not found or " " <= found <= "~" or found in "\t\r":
        return ""
    name = unicodedata.name(found, "a control character")
    if found == "\ufeff":
        name = "a byte order mark; save the file as UTF-8 without it"
    return f"; there stands U+{ord(found):04X}, {name}"


def _named(top: Table, kind: str) -> list[tuple[str, Table]]:
    if not top.has(kind):
        top.take(kind, dict, {})
        return []
    named, tables = top.table(kind), []
    for name, data in named.items():
        table = named.child(name, data)
        if not _NAME.fullmatch(name):
            message = f"{kind} {name!r}: a name has a-z, 0-9 and '-', begins with a letter, at most 32"
            raise top.source.error("bad-name", message, table.line)
        if name in RESERVED and kind == "peer":
            message = f"peer {name!r}: in a rule {name!r} is every peer; expected another name"
            raise top.source.error("bad-name", message, table.line)
        tables.append((name, table))
    return tables


def _listed(top: Table, kind: str) -> list[Table]:
    entries, source = top.take(kind, list, []), top.source
    inline = 1 if kind in source.headers else source.key_position("", 1, kind)[0]
    return [
        Table(source, partial(source.header_line, kind, at, inline), kind, data, f"{kind} {at + 1}")
        for at, data in enumerate(entries)
    ]


def _check_unique(peers: Mapping[str, Peer], places: Mapping[str, Table]) -> None:
    for what in ("port", "mac", "ip", "ek"):
        seen: dict[object, str] = {}
        for name, peer in peers.items():
            value = getattr(peer, what)
            if value is not None and value in seen:
                message = f"peer.{name}: {what} {value} already belongs to peer {seen[value]}"
                raise places[name].source.error("ambiguous", message, places[name].line)
            seen[value] = name


def _check_rule_ids(rules: tuple[Rule, ...], source: Source) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise source.error(
                "ambiguous", f"rule id {rule.id!r} is used twice; ids stand in every event", rule.line
            )
        seen.add(rule.id)
