from filters.flow import Protocol
from filters.policy.parser import parse_policy
from filters.policy.sweep import decided_pairs
from tests.filters.policy.texts import HEAD, rule


def test_pairs_with_the_same_rules_share_one_sweep() -> None:
    policy = parse_policy(
        HEAD + rule("all", "any", "any", "any", "allow") + rule("one", "web", "db", "tcp/9", "deny")
    )
    swept = {(source, destination): spans for source, destination, spans in decided_pairs(policy.rules)}
    assert len(swept) == 6
    assert len({id(spans) for spans in swept.values()}) == 2


def test_a_stronger_rule_cuts_a_hole() -> None:
    policy = parse_policy(
        HEAD + rule("wide", "web", "db", "tcp/1-9", "allow") + rule("hole", "web", "db", "tcp/4-5", "deny")
    )
    ((_, _, spans),) = decided_pairs(policy.rules)
    assert [(one.protocol, one.first, one.last, one.rule.id) for one in spans] == [
        (Protocol.TCP, 1, 3, "wide"),
        (Protocol.TCP, 4, 5, "hole"),
        (Protocol.TCP, 6, 9, "wide"),
    ]


def test_a_gap_between_rules_belongs_to_nobody() -> None:
    policy = parse_policy(
        HEAD + rule("low", "web", "db", "tcp/1-3", "allow") + rule("high", "web", "db", "tcp/7-9", "allow")
    )
    ((_, _, spans),) = decided_pairs(policy.rules)
    assert [(one.first, one.last) for one in spans] == [(1, 3), (7, 9)]
