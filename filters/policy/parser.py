"""Parse a policy file (TOML, schema 1; docs/policy.md). Any input gives a Policy or a PolicyError."""

import hashlib
import re
import tomllib
from ipaddress import IPv4Address

from filters.policy.model import (
    Action,
    Mode,
    OnFail,
    Opening,
    Peer,
    Policy,
    PolicyTest,
    ProfileSpec,
    Rule,
    Tier,
)
from filters.policy.services import parse_duration_ms, parse_service, parse_services
from filters.policy.table import Source, Table, suggestion

SCHEMA = 1
MAX_TEXT = 4 << 20
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_EK = re.compile(r"sha256:[0-9a-f]{64}")
TIERS = {"mandatory": Tier.MANDATORY, "site": Tier.SITE, "session": Tier.SESSION}
RESETTABLE = (16, 23)


def parse_policy(text: str, file: str = "policy.toml") -> Policy:
    """Parse and resolve a policy; raises PolicyError with file, line, column and what to do."""
    source = Source.of(text, file)
    if len(text) > MAX_TEXT:
        raise source.error("too-large", f"the policy is larger than {MAX_TEXT} bytes", 1)
    top = Table(source, 1, "policy", _toml(text, source))
    schema = top.take("schema", int)
    if schema != SCHEMA:
        raise top.error(
            "unknown-schema", "schema", f"schema {schema} is not known here; expected schema = {SCHEMA}"
        )
    profiles = {name: _profile(table) for name, table in _named(top, "profile")}
    peers = {name: _peer(name, table, profiles) for name, table in _named(top, "peer")}
    _check_unique(peers, source)
    rules = tuple(_rule(table, peers) for table in _listed(top, "rule"))
    _check_rule_ids(rules, source)
    tests = tuple(_test(table, peers) for table in _listed(top, "test"))
    top.finish()
    return Policy(hashlib.sha256(text.encode()).hexdigest(), peers, profiles, rules, tests)


def _toml(text: str, source: Source) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+), column (\d+)", str(error))
        line, column = (int(place[1]), int(place[2])) if place else (max(1, len(source.lines)), 1)
        raise source.error("not-toml", f"not TOML: {error}", line, column) from None
    except RecursionError:
        raise source.error("not-toml", "not TOML: nested too deeply", 1) from None


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


def _profile(table: Table) -> ProfileSpec:
    banks = table.table("pcrs")
    pcrs = dict(_pcr(banks, index, name) for index, name in banks.table("sha256").items())
    banks.finish()
    if not pcrs:
        raise table.error(
            "bad-value", "pcrs", f"{table.name}: `pcrs` selects nothing: nothing would be proved"
        )
    age = table.parse("max_quote_age", parse_duration_ms, "3s")
    on_fail = (
        _on_fail(table.table("on_fail"))
        if table.has("on_fail")
        else OnFail("restart", 3, 900.0, "quarantine")
    )
    table.take("on_fail", dict, {})
    table.finish()
    return ProfileSpec(table.name.removeprefix("profile."), pcrs, age, on_fail)


def _pcr(table: Table, index: str, name: object) -> tuple[int, str]:
    if not index.isascii() or not index.isdigit() or int(index) > 23 or int(index) in RESETTABLE:
        raise table.error(
            "bad-pcr",
            index,
            f"{table.name}: {index!r} is no PCR for a profile; expected 0 to 22, and 16 can be reset by the guest",
        )
    if not isinstance(name, str) or not name.startswith("ref:") or len(name) < 5:
        raise table.error(
            "bad-reference", index, f'{table.name}: PCR {index} needs a reference such as "ref:uki-web"'
        )
    return int(index), name.removeprefix("ref:")


def _on_fail(table: Table) -> OnFail:
    on_fail = OnFail(
        table.choice("peer", ("restart", "quarantine", "none"), "restart"),
        table.take("max_restarts", int, 3),
        table.parse("window", parse_duration_ms, "15m") / 1000,
        table.choice("then", ("quarantine", "none"), "quarantine"),
    )
    if on_fail.max_restarts < 0:
        raise table.error("bad-value", "max_restarts", f"{table.name}: `max_restarts` must not be negative")
    table.finish()
    return on_fail


def _peer(name: str, table: Table, profiles: dict[str, ProfileSpec]) -> Peer:
    match = table.table("match")
    ek = match.parse("ek", _ek) if match.has("ek") else None
    port = match.take("port", str)
    mac, ip = match.parse("mac", _mac), match.parse("ip", IPv4Address)
    match.finish()
    profile = table.take("profile", str)
    if profile not in profiles:
        hint = suggestion(profile, tuple(profiles))
        raise table.error(
            "unknown-profile", "profile", f"{table.name}: there is no profile {profile!r}{hint}"
        )
    tags = frozenset(table.texts("tags", []))
    table.finish()
    return Peer(name, port, mac, ip, ek, profile, tags)


def _mac(text: str) -> str:
    if not _MAC.fullmatch(text):
        raise ValueError(f"expected a MAC such as 52:54:00:aa:00:03 in lower case; got {text!r}")
    return text


def _ek(text: str) -> str:
    if not _EK.fullmatch(text):
        raise ValueError(f"expected sha256: and 64 hex digits; got {text!r}")
    return text


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


def _rule(table: Table, peers: dict[str, Peer]) -> Rule:
    name = table.take("id", str)
    table.name = f"rule {name}"
    if table.has("inspect"):
        raise table.error(
            "inspection-unsupported",
            "inspect",
            f"{table.name}: `inspect` is not supported yet: content inspection is not built in, and a rule that asks "
            "for it would pass uninspected; remove `inspect` or the rule",
        )
    rule = Rule(
        name,
        _ends(table, "from", peers),
        _ends(table, "to", peers),
        table.parse("service", parse_services),
        Action(table.choice("action", tuple(Action))),
        TIERS[table.choice("tier", tuple(TIERS), "site")],
        Mode(table.choice("mode", tuple(Mode), "enforce")),
        Opening(table.choice("open", tuple(Opening), "request")),
        table.parse("lease", parse_duration_ms, "5m"),
        table.line,
    )
    table.finish()
    return rule


def _ends(table: Table, key: str, peers: dict[str, Peer]) -> frozenset[str]:
    """Resolve a peer name, `tag:…`, `any`, or a list of them."""
    raw = table.texts(key) if table.holds_list(key) else [table.take(key, str)]
    names: set[str] = set()
    for word in raw:
        if word == "any":
            names |= set(peers)
        elif word.startswith("tag:"):
            tagged = {name for name, peer in peers.items() if word[4:] in peer.tags}
            if not tagged:
                raise table.error("unknown-tag", key, f"{table.name}: no peer has the tag {word[4:]!r}")
            names |= tagged
        elif word in peers:
            names.add(word)
        else:
            hint = suggestion(word, tuple(peers))
            raise table.error("unknown-peer", key, f"{table.name}: there is no peer {word!r}{hint}")
    return frozenset(names)


def _check_rule_ids(rules: tuple[Rule, ...], source: Source) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise source.error(
                "ambiguous", f"rule id {rule.id!r} is used twice; ids stand in every event", rule.line
            )
        seen.add(rule.id)


def _test(table: Table, peers: dict[str, Peer]) -> PolicyTest:
    flow = table.table("flow")
    ends = []
    for key in ("from", "to"):
        name = flow.take(key, str)
        if name not in peers:
            raise flow.error(
                "unknown-peer", key, f"{flow.name}: there is no peer {name!r}{suggestion(name, tuple(peers))}"
            )
        ends.append(name)
    service = flow.parse("service", parse_service)
    flow.finish()
    given = table.take("given", dict, {})
    expect = table.take("expect", str)
    if not re.fullmatch(r"allow|deny(:[a-z-]+)?", expect):
        raise table.error("bad-value", "expect", f"{table.name}: `expect` must be allow, deny or deny:REASON")
    table.finish()
    return PolicyTest(
        ends[0], ends[1], service, {str(k): str(v) for k, v in given.items()}, expect, table.line
    )
