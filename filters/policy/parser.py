"""Parse a policy file (TOML, schema 1; docs/policy.md). Any input gives a Policy or a PolicyError."""

import hashlib
import re
import tomllib

from filters.policy.expectations import parse_test
from filters.policy.identities import parse_peer, parse_profile
from filters.policy.model import Peer, Policy, Rule
from filters.policy.rules import parse_rule
from filters.policy.table import Source, Table

SCHEMA = 1
MAX_TEXT = 2 << 20  # 5000 rules are 0.7 MB
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
# tomllib's memory grows with the square of a dotted key's parts: 400 KB of them exhaust any machine.
MAX_DOTS = 32


def parse_policy(text: str, file: str = "policy.toml") -> Policy:
    """Parse and resolve a policy; raises PolicyError with file, line, column and what to do."""
    if len(text) > MAX_TEXT:
        raise Source.of("", file).error("too-large", f"the policy is larger than {MAX_TEXT} characters", 1)
    source = Source.of(text, file)
    digest = hashlib.sha256(_utf8(text, source)).hexdigest()
    top = Table(source, 1, "policy", _toml(text, source))
    schema = top.take("schema", int)
    if schema != SCHEMA:
        raise top.error(
            "unknown-schema", "schema", f"schema {schema} is not known here; expected schema = {SCHEMA}"
        )
    profiles = {name: parse_profile(table) for name, table in _named(top, "profile")}
    peers = {name: parse_peer(name, table, profiles) for name, table in _named(top, "peer")}
    _check_unique(peers, source)
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
        raise source.error("not-toml", f"not TOML: {error}", line, column) from None
    except RecursionError:
        raise source.error("not-toml", "not TOML: nested too deeply", 1) from None
    except ValueError as error:  # tomllib lets Python's own limit on the digits of a number through
        raise source.error("not-toml", f"not TOML: {error}", 1) from None


def _named(top: Table, kind: str) -> list[tuple[str, Table]]:
    if not top.has(kind):
        top.take(kind, dict, {})
        return []
    tables = []
    for name, data in top.table(kind).items():
        line = top.source.header_line(f"{kind}.{name}")
        if not _NAME.fullmatch(name):
            raise top.source.error(
                "bad-name", f"{kind} {name!r}: a name has a-z, 0-9 and '-', begins with a letter", line
            )
        tables.append((name, Table(top.source, line, f"{kind}.{name}", data)))
    return tables


def _listed(top: Table, kind: str) -> list[Table]:
    entries = top.take(kind, list, [])
    return [
        Table(top.source, top.source.header_line(kind, at), f"{kind} {at + 1}", data)
        for at, data in enumerate(entries)
    ]


def _check_unique(peers: dict[str, Peer], source: Source) -> None:
    for what in ("port", "mac", "ip"):
        seen: dict[object, str] = {}
        for name, peer in peers.items():
            value = getattr(peer, what)
            if value in seen:
                line = source.header_line(f"peer.{name}")
                raise source.error(
                    "ambiguous", f"peer.{name}: {what} {value} already belongs to peer {seen[value]}", line
                )
            seen[value] = name


def _check_rule_ids(rules: tuple[Rule, ...], source: Source) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise source.error(
                "ambiguous", f"rule id {rule.id!r} is used twice; ids stand in every event", rule.line
            )
        seen.add(rule.id)
