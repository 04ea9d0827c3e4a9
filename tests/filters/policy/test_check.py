from filters.policy.check import check_policy
from filters.policy.parser import parse_policy
from tests.filters.policy.texts import EXAMPLE, HEAD, rule


def said(text: str) -> list[str]:
    return [f"{one.severity}: {one.message}" for one in check_policy(parse_policy(text))]


def test_the_example_is_clean() -> None:
    assert said(EXAMPLE) == []


def test_a_failing_policy_test_is_an_error() -> None:
    flow = "web -> db tcp/5432"
    (first,) = said(EXAMPLE.replace('expect = "allow"', 'expect = "deny"'))
    assert first == f"error: test failed: {flow}: expected deny, got allow"


def test_a_test_for_another_reason_is_an_error() -> None:
    (only,) = said(EXAMPLE.replace("deny:not-attested", "deny:no-session"))
    assert only.endswith("expected deny:no-session, got deny:not-attested")


def test_a_plain_deny_is_content_with_any_reason() -> None:
    assert said(EXAMPLE.replace("deny:not-attested", "deny")) == []


def test_a_shadowed_rule_is_found() -> None:
    (only,) = said(EXAMPLE + rule("telnet", "web", "db", "tcp/23", "allow"))
    assert only == "warning: rule telnet never decides: rule no-telnet (line 38) does"


def test_a_rule_shadowed_by_several_together_is_found() -> None:
    halves = rule("low", "web", "db", "tcp/1-50", "deny") + rule("high", "web", "db", "tcp/51-99", "deny")
    (only,) = said(HEAD + halves + rule("whole", "web", "db", "tcp/1-99", "allow"))
    assert only.startswith("warning: rule whole never decides: rule low (line ")
    assert only.endswith("and others do")


def test_a_rule_that_decides_one_port_is_not_shadowed() -> None:
    halves = rule("low", "web", "db", "tcp/1-50", "deny") + rule("high", "web", "db", "tcp/52-99", "deny")
    assert said(HEAD + halves + rule("whole", "web", "db", "tcp/1-99", "allow")) == []


def test_a_rule_from_a_peer_to_itself_is_found() -> None:
    (only,) = said(HEAD + rule("self", "web", "web", "any", "allow"))
    assert only.endswith("a peer does not reach itself through the gateway")


def test_an_audited_deny_beside_an_allow_is_not_called_shadowed() -> None:
    trial = rule("trial", "web", "db", "tcp/80", "deny", 'mode = "audit"')
    assert said(HEAD + rule("allow", "web", "db", "tcp/80", "allow") + trial) == []


def test_finds_an_allow_rule_in_audit_mode() -> None:
    (only,) = said(HEAD + rule("trial", "web", "db", "tcp/80", "allow", 'mode = "audit"'))
    assert only == 'warning: rule trial allows: mode = "audit" changes nothing of that'


def test_findings_come_in_the_order_of_the_file() -> None:
    text = EXAMPLE.replace('expect = "allow"', 'expect = "deny"') + rule(
        "telnet", "web", "db", "tcp/23", "allow"
    )
    lines = [one.line for one in check_policy(parse_policy(text))]
    assert lines == sorted(lines)
    assert len(lines) == 2


def test_a_trial_behind_another_trial_is_found() -> None:
    trials = [rule(name, "web", "db", "tcp/1", "deny", 'mode = "audit"') for name in ("first", "second")]
    (only,) = said(HEAD + "".join(trials))
    assert only.startswith("warning: rule second never decides: rule first (line ")
    assert said(HEAD + "".join(trials) + rule("far", "web", "db", "tcp/9", "allow")) == [only]


def test_an_allow_without_inspection_that_never_decides_is_found() -> None:
    inspected = rule("z", "web", "db", "tcp/80", "allow") + 'inspect = { hold = "object" }\n'
    (only,) = said(HEAD + rule("a", "web", "db", "tcp/80", "allow") + inspected)
    assert only.startswith("warning: rule a never decides: rule z (line ")
