"""Check a policy beyond its grammar: its own tests, and rules that can never decide anything. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from filters.policy.evaluator import AuthorityState, Facts, PeerFacts, Request, evaluate
from filters.policy.matching import rank
from filters.policy.model import Policy, PolicyTest, Rule
from filters.policy.sweep import decided_pairs


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say about a policy; an error stops it from being applied."""

    line: int
    severity: str
    message: str


def check_policy(policy: Policy) -> list[Finding]:
    """Run the policy's tests and look for rules that never decide."""
    findings = [finding for test in policy.tests if (finding := _run(policy, test))]
    findings += _idle(policy)
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


def _idle(policy: Policy) -> list[Finding]:
    """Find rules that decide no flow at all, with the rules that decide instead."""
    about: dict[tuple[str, str], list[Rule]] = {}
    deciding: set[str] = set()
    for source, destination, spans in decided_pairs(policy.rules):
        about[source, destination] = list({span.rule.id: span.rule for span in spans}.values())
        deciding.update(rule.id for rule in about[source, destination])
    return [
        Finding(rule.line, "warning", f"rule {rule.id} never decides: {_instead(rule, about)}")
        for rule in policy.rules
        if rule.id not in deciding
    ]


def _instead(rule: Rule, about: Mapping[tuple[str, str], list[Rule]]) -> str:
    """Name the rules that decide the first pair this one speaks about, the strongest first."""
    pairs = ((a, b) for a in sorted(rule.sources) for b in sorted(rule.destinations) if a != b)
    pair = next(pairs, None)
    if pair is None:
        return "a peer does not reach itself through the gateway"
    others = [one for one in about[pair] if _overlap(one, rule)]
    first, *rest = sorted(others, key=rank)
    more = f" (and {len(rest)} more)" if rest else ""
    return f"rule {first.id} (line {first.line}){more} always does"


def _overlap(one: Rule, other: Rule) -> bool:
    return any(
        mine.protocol is theirs.protocol and mine.first <= theirs.last and theirs.first <= mine.last
        for mine in one.services
        for theirs in other.services
    )
