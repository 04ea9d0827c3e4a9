"""Check a policy beyond its grammar: its own tests, and rules that never decide or do not what they seem to. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from filters.policy.evaluator import AuthorityState, Facts, PeerFacts, Request, evaluate
from filters.policy.matching import only_reports
from filters.policy.model import Action, Mode, Policy, PolicyTest, Rule
from filters.policy.sweep import Span, decided_pairs

_About = Mapping[tuple[str, str], tuple[Span, ...]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say about a policy; an error stops it from being applied."""

    line: int
    severity: str
    message: str


def check_policy(policy: Policy) -> list[Finding]:
    """Run the policy's tests and look for rules that never decide, or are on trial without effect."""
    findings = [finding for test in policy.tests if (finding := _run(policy, test))]
    findings += _idle(policy)
    findings += _open_on_trial(policy)
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
    """Find rules that decide no flow at all, with a rule that decides instead."""
    deciding, about = _deciders(policy.rules)
    on_trial, about_trial = deciding, about
    if any(rule.mode is Mode.AUDIT for rule in policy.rules):  # what it would decide counts as well
        on_trial, about_trial = _deciders(replace(rule, mode=Mode.ENFORCE) for rule in policy.rules)
    alive = deciding | on_trial
    return [
        Finding(
            rule.line,
            "warning",
            f"rule {rule.id} never decides: {_instead(rule, about_trial if only_reports(rule) else about)}",
        )
        for rule in policy.rules
        if rule.id not in alive
    ]


def _deciders(rules: Iterable[Rule]) -> tuple[set[str], _About]:
    """Return the ids of rules that decide something, and what is decided about each pair."""
    about = {(source, destination): spans for source, destination, spans in decided_pairs(rules)}
    return {span.rule.id for spans in about.values() for span in spans}, about


def _open_on_trial(policy: Policy) -> list[Finding]:
    """Find rules that allow in audit mode: whoever wants to see what one would do gets what it does."""
    return [
        Finding(rule.line, "warning", f'rule {rule.id} allows: mode = "audit" changes nothing of that')
        for rule in policy.rules
        if rule.action is Action.ALLOW and rule.mode is Mode.AUDIT
    ]


def _instead(rule: Rule, about: _About) -> str:
    """Name the rule that decides the first ports, of the first pair, that this one speaks about."""
    pairs = ((a, b) for a in sorted(rule.sources) for b in sorted(rule.destinations) if a != b)
    pair = next(pairs, None)
    if pair is None:
        return "a peer does not reach itself through the gateway"
    services = rule.services[0]
    span = next(
        one for one in about[pair] if one.protocol is services.protocol and one.last >= services.first
    )
    alone = len(rule.services) == 1 and span.last >= services.last
    return f"rule {span.rule.id} (line {span.rule.line}) {'does' if alone else 'and others do'}"
