"""Find the rule that decides a flow: order-free inside a tier, deny beats allow, lower tiers first. Pure."""

from collections.abc import Iterable

from filters.flow import Service
from filters.policy.model import Action, Mode, Policy, Rule


def denies(rule: Rule) -> bool:
    """Tell whether a rule really denies."""
    return rule.action is Action.DENY and rule.mode is Mode.ENFORCE


def only_reports(rule: Rule) -> bool:
    """Tell whether a rule decides nothing: a deny rule in audit mode. It must never open what nothing allows."""
    return rule.action is Action.DENY and rule.mode is Mode.AUDIT


def rank(rule: Rule) -> tuple[int, bool, str]:
    """Order rules by who decides: tier, then deny before allow; the id breaks ties, so order never matters."""
    return rule.tier, rule.action is not Action.DENY, rule.id


def deciding(rules: Iterable[Rule]) -> Rule | None:
    """Return the rule that decides among those that match."""
    return min((rule for rule in rules if not only_reports(rule)), key=rank, default=None)


def would_deny(rules: Iterable[Rule]) -> Rule | None:
    """Return the audited deny rule that would decide among those that match if it were enforced."""
    strictest = min(rules, key=rank, default=None)
    return strictest if strictest is not None and only_reports(strictest) else None


def rules_by_pair(rules: Iterable[Rule]) -> dict[tuple[str, str], list[Rule]]:
    """Sort rules by the (source, destination) pairs they speak about."""
    pairs: dict[tuple[str, str], list[Rule]] = {}
    for rule in rules:
        for source in rule.sources:
            for destination in rule.destinations:
                if source != destination:
                    pairs.setdefault((source, destination), []).append(rule)
    return pairs


def match_rules(
    policy: Policy, source: str, destination: str, service: Service
) -> tuple[Rule | None, tuple[Rule, ...]]:
    """Return the deciding rule and all that speak about this flow."""
    candidates = tuple(rule for rule in policy.rules if rule.matches(source, destination, service))
    return deciding(candidates), candidates
