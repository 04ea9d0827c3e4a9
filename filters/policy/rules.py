"""Parse rules: who may open what to whom, with the ends resolved to peer names."""

from collections.abc import Mapping

from filters.policy.inspections import parse_inspection
from filters.policy.model import Action, Mode, Opening, Peer, Rule, ServiceRange, Tier
from filters.policy.services import parse_duration_ms, parse_label, parse_services
from filters.policy.table import Table
from filters.suggestion import suggestion

MAX_LEASE_MS = 30 * 86_400_000  # netd grants no more
TIERS = {"mandatory": Tier.MANDATORY, "site": Tier.SITE, "session": Tier.SESSION}


def parse_rule(table: Table, peers: Mapping[str, Peer]) -> Rule:
    """Read one `[[rule]]`; raises PolicyError, also for peers and tags that do not exist."""
    name = table.parse("id", parse_label)
    table.name = f"rule {name}"
    services = _services(table)
    rule = Rule(
        name,
        _ends(table, "from", peers),
        _ends(table, "to", peers),
        services,
        Action(table.choice("action", tuple(Action))),
        TIERS[table.choice("tier", tuple(TIERS), "site")],
        Mode(table.choice("mode", tuple(Mode), "enforce")),
        Opening(table.choice("open", tuple(Opening), "request")),
        table.parse("lease", _lease, "5m"),
        table.line,
        parse_inspection(table, services) if table.has("inspect") else None,
    )
    table.finish()
    if rule.inspection is not None and rule.action is not Action.ALLOW:
        raise table.error("bad-value", "inspect", f"{table.name}: `inspect` belongs to a rule that allows")
    return rule


def _lease(text: str) -> int:
    lease_ms = parse_duration_ms(text)
    if lease_ms > MAX_LEASE_MS:
        raise ValueError(f"expected 30d at most; got {text!r}")
    return lease_ms


def _services(table: Table) -> tuple[ServiceRange, ...]:
    """Read one service or a list of them."""
    if not table.holds_list("service"):
        return table.parse("service", parse_services)
    found = [one for some in table.parse_all("service", parse_services) for one in some]
    if not found:
        raise table.error(
            "bad-value", "service", f"{table.name}: `service` is empty: the rule speaks about nothing"
        )
    return tuple(found)


def _ends(table: Table, key: str, peers: Mapping[str, Peer]) -> frozenset[str]:
    """Resolve a peer name, `tag:…`, `any`, or a list of them."""
    raw = table.texts(key) if table.holds_list(key) else [table.take(key, str)]
    names: set[str] = set()
    for word in raw:
        if word == "any":
            names |= set(peers)
        elif word.startswith("tag:"):
            tagged = {name for name, peer in peers.items() if word[4:] in peer.tags}
            if not tagged:
                hint = suggestion(word[4:], sorted({tag for peer in peers.values() for tag in peer.tags}))
                raise table.error("unknown-tag", key, f"{table.name}: no peer has the tag {word[4:]!r}{hint}")
            names |= tagged
        elif word in peers:
            names.add(word)
        else:
            hint = suggestion(word, peers)
            raise table.error("unknown-peer", key, f"{table.name}: there is no peer {word!r}{hint}")
    if not names:
        raise table.error(
            "bad-value", key, f"{table.name}: `{key}` names nobody: the rule speaks about nothing"
        )
    return frozenset(names)
