import json

from filters.policy import explain
from filters.policy.evaluator import AuthorityState, Facts, PeerFacts, Request, evaluate
from filters.policy.parser import parse_policy
from tests.filters.policy.texts import EXAMPLE, HEAD, SQL, TRUSTED, rule

REQUEST = Request("web", "db", SQL)


def explained(facts: Facts) -> dict[str, object]:
    return explain.to_json(evaluate(parse_policy(EXAMPLE), REQUEST, facts))


def test_the_object_has_its_documented_keys() -> None:
    whole = explained(Facts(AuthorityState.VALID, TRUSTED))
    assert set(whole) == {"verdict", "reason", "rule", "conditions", "advice"}
    assert json.loads(json.dumps(whole)) == whole


def test_an_allowed_flow_is_put_into_words() -> None:
    text = explain.to_text(REQUEST, explained(Facts(AuthorityState.VALID, TRUSTED)))
    assert text.splitlines()[0] == "web -> db tcp/5432: allow"
    assert "NO" not in text


def test_a_refused_flow_names_the_condition_and_the_advice() -> None:
    facts = Facts(AuthorityState.VALID, {**TRUSTED, "db": PeerFacts("failed", "pcr-mismatch")})
    lines = explain.to_text(REQUEST, explained(facts)).splitlines()
    assert lines[0] == "web -> db tcp/5432: deny: not-attested"
    assert "  NO   destination-trusted: db is failed (pcr-mismatch)" in lines
    assert lines[-1].startswith("  advice: db must attest first")


def test_a_rule_with_many_services_says_that_there_are_more() -> None:
    text = HEAD + rule("r", "web", "db", "X", "allow").replace(
        '"X"', '["tcp/1", "tcp/3", "tcp/5", "tcp/7", "udp/9"]'
    )
    (tried,) = explain.try_rules(parse_policy(text), REQUEST)
    assert tried.misses == ("service is tcp/1, tcp/3, tcp/5 and 2 more, not tcp/5432",)
