"""Put a decision into words and into JSON."""

from collections.abc import Sequence
from dataclasses import dataclass

from filters.policy.evaluator import Decision, Request
from filters.policy.matching import only_reports, rank
from filters.policy.model import Policy, Rule
from filters.policy.services import range_text

SHOWN = 8


@dataclass(frozen=True, slots=True)
class TriedRule:
    """One rule held against a flow: `misses` are the conditions that failed; none: it speaks about the flow."""

    rule: Rule
    misses: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Write the documented object."""
        rule = self.rule
        return {
            "id": rule.id,
            "line": rule.line,
            "action": str(rule.action),
            "tier": rule.tier.name.lower(),
            "mode": str(rule.mode),
            "inspect": None if rule.inspection is None else str(rule.inspection),
            "matches": not self.misses,
            "misses": list(self.misses),
        }


def try_rules(policy: Policy, request: Request) -> list[TriedRule]:
    """Hold every rule against a flow: first those that match, the deciding one on top, then the nearest misses."""
    tried = [TriedRule(rule, _misses(rule, request)) for rule in policy.rules]
    return sorted(tried, key=lambda one: (len(one.misses), only_reports(one.rule), rank(one.rule)))


def _misses(rule: Rule, request: Request) -> tuple[str, ...]:
    misses = []
    for key, names, name in (
        ("from", rule.sources, request.source),
        ("to", rule.destinations, request.destination),
    ):
        if name not in names:
            misses.append(f"{key} is {_some(sorted(names))}, not {name}")
    if not any(request.service in one for one in rule.services):
        ranges = [range_text(one.protocol, one.first, one.last) for one in rule.services]
        misses.append(f"service is {_some(ranges)}, not {request.service}")
    if request.source == request.destination:
        misses.append("a peer does not reach itself through the gateway")
    return tuple(misses)


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")


def to_json(decision: Decision) -> dict[str, object]:
    """Return the documented object: verdict, reason, rule, conditions, advice."""
    return {
        "verdict": str(decision.verdict),
        "reason": str(decision.reason) if decision.reason else None,
        "rule": decision.rule.id if decision.rule else None,
        "conditions": [
            {"name": one.name, "holds": one.holds, "detail": one.detail} for one in decision.conditions
        ],
        "advice": decision.advice,
    }


def to_text(request: Request, explained: dict[str, object]) -> str:
    """Return the same for people."""
    reason = f": {explained['reason']}" if explained["reason"] else ""
    lines = [f"{request.source} -> {request.destination} {request.service}: {explained['verdict']}{reason}"]
    conditions = explained["conditions"]
    assert isinstance(conditions, list)  # noqa: S101 - to_json's own shape
    lines += [f"  {'yes' if one['holds'] else 'NO '}  {one['name']}: {one['detail']}" for one in conditions]
    trust = explained.get("trust")
    if isinstance(trust, dict):
        for name, one in trust.items():
            age = one["last_quote_age_ms"]
            quoted = "never quoted" if age is None else f"last good quote {age} ms ago"
            lines.append(
                f"  {name}: {one['state']}{' (' + one['reason'] + ')' if one['reason'] else ''}, {quoted}"
            )
    rules = explained.get("rules")
    if isinstance(rules, list):
        lines += [f"  {_rule_line(one)}" for one in rules[:SHOWN]]
        if len(rules) > SHOWN:
            lines.append(f"  and {len(rules) - SHOWN} rules further away (--json lists all)")
    if explained["advice"]:
        lines.append(f"  advice: {explained['advice']}")
    return "\n".join(lines)


def _rule_line(tried: dict[str, object]) -> str:
    audit = " (audit)" if tried["mode"] == "audit" else ""
    misses = tried["misses"]
    assert isinstance(misses, list)  # noqa: S101 - to_json's own shape
    why = "; ".join(misses) if misses else "speaks about it"
    inspected = f" and inspects: {tried['inspect']}" if tried.get("inspect") and not misses else ""
    return f"rule {tried['id']} (line {tried['line']}) {tried['tier']} {tried['action']}{audit}: {why}{inspected}"
