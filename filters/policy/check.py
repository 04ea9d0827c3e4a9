"""Check a policy beyond its grammar: its own tests, and rules that can never decide anything. Pure."""

from dataclasses import dataclass

from filters.policy.evaluator import AuthorityState, Facts, PeerFacts, Request, evaluate
from filters.policy.matching import denies
from filters.policy.model import Policy, PolicyTest, Rule, ServiceRange


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say about a policy; an error stops it from being applied."""

    line: int
    severity: str
    message: str


def check_policy(policy: Policy) -> list[Finding]:
    """Run the policy's tests and look for shadowed rules."""
    findings = [finding for test in policy.tests if (finding := _run(policy, test))]
    findings += [finding for rule in policy.rules if (finding := _shadowed(policy, rule))]
    return sorted(findings, key=lambda one: one.line)


def _run(policy: Policy, test: PolicyTest) -> Finding | None:
    """Run one test; peers it does not mention are trusted and authority is valid."""
    peers = {name: PeerFacts(test.given.get(name, "trusted")) for name in policy.peers}
    decision = evaluate(
        policy, Request(test.source, test.destination, test.service), Facts(AuthorityState.VALID, peers)
    )
    got = f"deny:{decision.reason}" if decision.reason else "allow"
    if got == test.expect or (test.expect == "deny" and decision.reason):
        return None
    flow = f"{test.source} -> {test.destination} {test.service}"
    return Finding(test.line, "error", f"test failed: {flow}: expected {test.expect}, got {got}")


def _shadowed(policy: Policy, rule: Rule) -> Finding | None:
    """Find one other rule that decides everything this one speaks about."""
    for other in policy.rules:
        wins = (other.tier, not denies(other)) < (rule.tier, not denies(rule))
        covers = rule.sources <= other.sources and rule.destinations <= other.destinations
        if wins and covers and all(_covered(one, other) for one in rule.services):
            return Finding(
                rule.line,
                "warning",
                f"rule {rule.id} never decides: rule {other.id} (line {other.line}) always does",
            )
    return None


def _covered(services: ServiceRange, other: Rule) -> bool:
    return any(
        one.protocol is services.protocol and one.first <= services.first and services.last <= one.last
        for one in other.services
    )
