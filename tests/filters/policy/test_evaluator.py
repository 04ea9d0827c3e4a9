import pytest

from filters.flow import Protocol, Service
from filters.policy.evaluator import AuthorityState, Decision, Facts, PeerFacts, Request, Verdict, evaluate
from filters.policy.parser import parse_policy
from tests.filters.policy.texts import EXAMPLE, HEAD, SQL, TRUSTED, rule

ALL_WELL = Facts(AuthorityState.VALID, TRUSTED)


def decide(text: str, facts: Facts = ALL_WELL, request: Request | None = None) -> Decision:
    return evaluate(parse_policy(text), request or Request("web", "db", SQL), facts)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(AuthorityState.ABSENT, TRUSTED), "communication-disabled"),
        (Facts(AuthorityState.EXPIRED, TRUSTED), "authority-expired"),
        (Facts(AuthorityState.VALID), "not-attested"),
        (Facts(AuthorityState.VALID, {**TRUSTED, "web": PeerFacts("failed")}), "not-attested"),
        (Facts(AuthorityState.VALID, {**TRUSTED, "db": PeerFacts("stale")}), "not-attested"),
        (Facts(AuthorityState.VALID, {**TRUSTED, "db": PeerFacts("quarantined")}), "peer-quarantined"),
        (Facts(AuthorityState.VALID, TRUSTED, session_open=False), "no-session"),
        (Facts(AuthorityState.VALID, TRUSTED, session_open=True), None),
    ],
)
def test_facts_decide_with_one_reason(facts: Facts, expected: str | None) -> None:
    decision = decide(EXAMPLE, facts)
    assert decision.reason == expected
    assert decision.advice
    assert (decision.verdict is Verdict.ALLOW) == all(one.holds for one in decision.conditions)


def test_authority_comes_before_the_rule_and_the_rule_before_trust() -> None:
    nobody = Facts(AuthorityState.ABSENT)
    assert decide(HEAD, nobody).reason == "communication-disabled"
    assert decide(HEAD, Facts(AuthorityState.VALID)).reason == "no-rule"


def test_every_condition_is_told_also_after_the_first_that_fails() -> None:
    names = [one.name for one in decide(HEAD, Facts(AuthorityState.ABSENT, session_open=False)).conditions]
    assert names == ["authority", "rule", "source-trusted", "destination-trusted", "session"]


def test_an_on_demand_rule_needs_no_session_yet() -> None:
    text = HEAD + rule("r", "web", "db", "any", "allow", 'open = "on-demand"')
    decision = decide(text, Facts(AuthorityState.VALID, TRUSTED, session_open=False))
    assert (decision.verdict, decision.on_demand) == (Verdict.ALLOW, True)


def test_the_reverse_direction_is_explained() -> None:
    assert "other direction" in decide(EXAMPLE, request=Request("db", "web", SQL)).conditions[1].detail


def test_another_service_of_the_same_peers_is_explained() -> None:
    other = Request("web", "db", Service(Protocol.TCP, 1))
    assert "another service" in decide(EXAMPLE, request=other).conditions[1].detail


def test_a_peer_does_not_reach_itself() -> None:
    assert (
        decide(HEAD + rule("r", "any", "any", "any", "allow"), request=Request("web", "web", SQL)).reason
        == "no-rule"
    )


def test_an_unknown_peer_is_covered_by_no_rule() -> None:
    request = Request("stranger", "db", SQL)
    assert decide(HEAD + rule("r", "any", "any", "any", "allow"), request=request).reason == "no-rule"


def test_deny_beats_allow_inside_a_tier() -> None:
    text = (
        HEAD + rule("z-deny", "any", "db", "tcp/5432", "deny") + rule("a-allow", "web", "db", "any", "allow")
    )
    assert decide(text).reason == "denied-by-rule"
    assert "a tier before site" in decide(text).advice


def test_mandatory_deny_beats_a_site_allow() -> None:
    text = EXAMPLE + rule("open", "any", "any", "any", "allow")
    telnet, other = (Request("web", "db", Service(Protocol.TCP, port)) for port in (23, 24))
    assert decide(text, request=telnet).reason == "denied-by-rule"
    assert "tier before" not in decide(text, request=telnet).advice
    assert decide(text, request=other).verdict is Verdict.ALLOW


def test_mandatory_allow_beats_a_site_deny() -> None:
    text = (
        HEAD
        + rule("no", "any", "any", "any", "deny")
        + rule("yes", "web", "db", "any", "allow", 'tier = "mandatory"')
    )
    assert decide(text).verdict is Verdict.ALLOW


AUDITED = rule("a-trial", "any", "any", "any", "deny", 'mode = "audit"')


def test_an_audited_deny_opens_nothing_by_itself() -> None:
    decision = decide(HEAD + AUDITED)
    assert (decision.verdict, decision.reason) == (Verdict.DENY, "no-rule")


def test_an_audited_deny_lets_pass_what_a_rule_allows_and_says_that_it_would_deny() -> None:
    decision = decide(HEAD + AUDITED + rule("z-allow", "web", "db", "any", "allow"))
    assert (decision.verdict, decision.reason) == (Verdict.ALLOW, None)
    assert decision.would_deny is not None
    assert decision.would_deny.id == "a-trial"
    assert "would deny" in decision.advice


def test_an_audited_mandatory_deny_lifts_no_enforced_deny() -> None:
    trial = rule("trial", "any", "any", "any", "deny", 'mode = "audit"\ntier = "mandatory"')
    decision = decide(HEAD + trial + rule("real", "web", "db", "any", "deny"))
    assert decision.reason == "denied-by-rule"


def test_an_audited_deny_does_not_change_how_an_allowed_flow_opens() -> None:
    allow = rule("z-allow", "web", "db", "any", "allow", 'open = "on-demand"\nlease = "1h"')
    decision = decide(HEAD + AUDITED + allow)
    assert decision.rule is not None
    assert (decision.rule.id, decision.on_demand, decision.rule.lease_ms) == ("z-allow", True, 3_600_000)
    assert decision.would_deny is not None


def test_an_audited_deny_never_lifts_an_enforced_one_of_its_tier() -> None:
    decision = decide(HEAD + AUDITED + rule("real", "web", "db", "any", "deny"))
    assert (decision.reason, decision.would_deny) == ("denied-by-rule", None)


def test_an_audited_deny_behind_a_stronger_allow_would_not_deny() -> None:
    decision = decide(HEAD + AUDITED + rule("first", "web", "db", "any", "allow", 'tier = "mandatory"'))
    assert (decision.verdict, decision.would_deny) == (Verdict.ALLOW, None)


def test_an_audited_allow_allows_and_would_deny_nothing() -> None:
    decision = decide(HEAD + rule("r", "web", "db", "any", "allow", 'mode = "audit"'))
    assert (decision.verdict, decision.would_deny, decision.advice) == (Verdict.ALLOW, None, "nothing to do")
