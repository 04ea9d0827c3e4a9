"""The one evaluator: what may pass, why, and what to do about it. Pure.

Enforcement, `explain`, policy tests and revocation all ask here; the compiled sets in the kernel are
tested to agree. The order of the conditions is the order in which they are decided: authority, rule,
trust of the requester, trust of the target, session.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from filters.flow import Service
from filters.policy.matching import denies, match_rules, would_deny
from filters.policy.model import Action, Opening, Policy, Rule, Tier
from filters.reason import DropReason


class AuthorityState(StrEnum):
    """Whether an administrator permits guests to talk at all."""

    VALID = "valid"
    EXPIRED = "expired"
    ABSENT = "absent"


class Verdict(StrEnum):
    """The outcome."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants to open what to whom (peer names without platform)."""

    source: str
    destination: str
    service: Service


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """A peer's state and why it is in it."""

    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true now. A peer that is not named is unknown; `session_open` None means: don't ask for one."""

    authority: AuthorityState
    peers: Mapping[str, PeerFacts] = field(default_factory=dict)
    session_open: bool | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must hold, whether it does, and what was found."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict with everything it rests on. `reason` is None for an allowed flow.

    `would_deny` is the rule in audit mode that would have denied an allowed flow: to be recorded.
    """

    verdict: Verdict
    reason: DropReason | None
    rule: Rule | None
    conditions: tuple[Condition, ...]
    advice: str
    would_deny: Rule | None = None

    @property
    def on_demand(self) -> bool:
        """Tell whether the first packet may open the session."""
        return _on_demand(self.rule)


_Check = tuple[Condition, DropReason, str]


def evaluate(policy: Policy, request: Request, facts: Facts) -> Decision:
    """Decide a request against the policy and what is true now."""
    rule, matching = match_rules(policy, request.source, request.destination, request.service)
    checks = [_authority(facts), _rule(policy, request, rule)]
    checks += [
        _trust(facts, role, name)
        for role, name in (("source", request.source), ("destination", request.destination))
    ]
    if facts.session_open is not None:
        checks.append(_session(request, rule, open_now=facts.session_open))
    conditions = tuple(condition for condition, _, _ in checks)
    for condition, reason, advice in checks:
        if not condition.holds:
            return Decision(Verdict.DENY, reason, rule, conditions, advice)
    audited = would_deny(matching)
    advice = f"{_place(audited)} is in audit mode and would deny this" if audited else "nothing to do"
    return Decision(Verdict.ALLOW, None, rule, conditions, advice, audited)


def _authority(facts: Facts) -> _Check:
    state = facts.authority
    expired = state is AuthorityState.EXPIRED
    reason = DropReason.AUTHORITY_EXPIRED if expired else DropReason.COMMUNICATION_DISABLED
    advice = "an administrator must permit communication: quotegate authority grant"
    return (
        Condition("authority", state is AuthorityState.VALID, f"an administrator's authority is {state}"),
        reason,
        advice,
    )


def _rule(policy: Policy, request: Request, rule: Rule | None) -> _Check:
    if rule is None:
        near = _nearest(policy, request)
        return (
            Condition("rule", False, f"no rule speaks about this flow{near}"),
            DropReason.NO_RULE,
            "add an allow rule to the policy",
        )
    place = _place(rule)
    if denies(rule):
        advice = f"change {place}"
        if rule.tier is not Tier.MANDATORY:
            advice += f", or allow the flow in a tier before {rule.tier.name.lower()}"
        return Condition("rule", False, f"{place} denies it"), DropReason.DENIED_BY_RULE, advice
    verb = "allows it" if rule.action is Action.ALLOW else "would deny it, but is in audit mode: it passes"
    return Condition("rule", True, f"{place} {verb}"), DropReason.NO_RULE, ""


def _place(rule: Rule) -> str:
    return f"rule {rule.id} (line {rule.line})"


def _nearest(policy: Policy, request: Request) -> str:
    for rule in policy.rules:
        if rule.matches(request.destination, request.source, request.service):
            return f"; rule {rule.id} is for the other direction"
    for rule in policy.rules:
        if request.source in rule.sources and request.destination in rule.destinations:
            return f"; rule {rule.id} is for the same peers and another service"
    return ""


def _trust(facts: Facts, role: str, name: str) -> _Check:
    peer = facts.peers.get(name, PeerFacts("unknown"))
    why = f" ({peer.reason})" if peer.reason else ""
    condition = Condition(f"{role}-trusted", peer.state == "trusted", f"{name} is {peer.state}{why}")
    if peer.state == "quarantined":
        return condition, DropReason.PEER_QUARANTINED, f"find out why, then: quotegate peer release {name}"
    return condition, DropReason.NOT_ATTESTED, f"{name} must attest first: see quotegate peers and its reason"


def _on_demand(rule: Rule | None) -> bool:
    return rule is not None and rule.opening is Opening.ON_DEMAND


def _session(request: Request, rule: Rule | None, *, open_now: bool) -> _Check:
    on_demand = _on_demand(rule)
    detail = "a session is open" if open_now else "no session is open"
    if not open_now and on_demand:
        detail += "; the first packet opens one"
    advice = f"open one in {request.source}: quotegate-agent open {request.destination} {request.service}"
    return Condition("session", open_now or on_demand, detail), DropReason.NO_SESSION, advice
