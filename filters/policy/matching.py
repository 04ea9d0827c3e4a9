"""Find the rule that decides a flow: order-free inside a tier, deny beats allow, lower tiers first. Pure."""

from collections.abc import Iterable, Sequence

from filters.errors import PolicyError
from filters.flow import Service
from filters.policy.model import Action, Mode, Policy, Rule

MAX_PAIRS = 800_000  # the kernel is given a range at least for each, in one message
MAX_MENTIONS = 8_000_000  # pairs, counted again for each rule that speaks about them


def denies(rule: Rule) -> bool:
    """Tell whether a rule really denies."""
    return rule.action is Action.DENY and rule.mode is Mode.ENFORCE


def only_reports(rule: Rule) -> bool:
    """Tell whether a rule decides nothing: a deny rule in audit mode. It must never open what nothing allows."""
    return rule.action is Action.DENY and rule.mode is Mode.AUDIT


def rank(rule: Rule) -> tuple[int, int, str]:
    """Order rules by who decides: tier, then the stricter; the id breaks ties, so order never matters.

    An allow without `inspect` beside one with it must not take its flows away from the inspectors.
    """
    strictness = 0 if rule.action is Action.DENY else 1 if rule.inspection is not None else 2
    return rule.tier, strictness, rule.id


def deciding(rules: Iterable[Rule]) -> Rule | None:
    """Return the rule that decides among those that match."""
    return min((rule for rule in rules if not only_reports(rule)), key=rank, default=None)


def would_deny(rules: Iterable[Rule]) -> Rule | None:
    """Return the audited deny rule that would decide among those that match if it were enforced."""
    strictest = min(rules, key=rank, default=None)
    return strictest if strictest is not None and only_reports(strictest) else None


def rules_by_pair(rules: Iterable[Rule]) -> dict[tuple[str, str], list[Rule]]:
    """Sort rules by the (source, destination) pairs they speak about; raises PolicyError `too-large`."""
    rules = tuple(rules)
    if sum(map(_mentions, rules)) > MAX_MENTIONS:
        raise _too_many_pairs(rules)
    pairs: dict[tuple[str, str], list[Rule]] = {}
    for rule in rules:
        for source in rule.sources:
            if len(pairs) > MAX_PAIRS:
                raise _too_many_pairs(rules)
            for destination in rule.destinations:
                if source != destination:
                    pairs.setdefault((source, destination), []).append(rule)
    return pairs


def _mentions(rule: Rule) -> int:
    return len(rule.sources) * len(rule.destinations)


def _too_many_pairs(rules: Sequence[Rule]) -> PolicyError:
    widest = max(rules, key=_mentions)
    return PolicyError(
        "too-large",
        f"the rules speak about too many pairs of peers: expected {MAX_PAIRS} at most, and {MAX_MENTIONS} over all rules; "
        f"rule {widest.id} (line {widest.line}) alone has {_mentions(widest)}: name fewer peers in its `from` or `to`",
    )


def match_rules(
    policy: Policy, source: str, destination: str, service: Service
) -> tuple[Rule | None, tuple[Rule, ...]]:
    """Return the deciding rule and all that speak about this flow."""
    candidates = tuple(rule for rule in policy.rules if rule.matches(source, destination, service))
    return deciding(candidates), candidates
