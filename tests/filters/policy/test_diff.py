"""What a change of policy gives and takes: compared, flow by flow, with the evaluator."""

from hypothesis import given, settings
from hypothesis import strategies as st

from filters.flow import Protocol, Service
from filters.policy.diff import compare_policies
from filters.policy.matching import denies, match_rules
from filters.policy.model import Policy
from filters.policy.parser import parse_policy
from tests.filters.policy.texts import EXAMPLE, HEAD, PEERS, many_rules, rule

BASE = parse_policy(HEAD + rule("a", "web", "db", "tcp/100-200", "allow"))


def _changes(*rules: str) -> tuple[list[str], list[str]]:
    diff = compare_policies(BASE, parse_policy(HEAD + "".join(rules)))
    return tuple(
        [f"{one.source}>{one.destination} {one.service} {one.rule}" for one in some]
        for some in (diff.gained, diff.lost)
    )


def test_nothing_changes_nothing() -> None:
    diff = compare_policies(BASE, BASE)
    assert not (diff.gained or diff.lost)
    assert not (diff.added or diff.removed or diff.moved)


def test_another_name_for_a_rule_changes_no_reach() -> None:
    assert _changes(rule("other", "web", "db", "tcp/100-200", "allow")) == ([], [])


def test_a_hole_in_the_middle_is_lost_alone() -> None:
    hole = rule("hole", "web", "db", "tcp/150", "deny")
    assert _changes(rule("a", "web", "db", "tcp/100-200", "allow"), hole) == ([], ["web>db tcp/150 a"])


def test_ranges_are_cut_at_both_ends() -> None:
    got = _changes(rule("b", "web", "db", "tcp/90-150", "allow"))
    assert got == (["web>db tcp/90-99 b"], ["web>db tcp/151-200 a"])


def test_another_direction_is_another_reach() -> None:
    got = _changes(rule("a", "db", "web", "tcp/100-200", "allow"))
    assert got == (["db>web tcp/100-200 a"], ["web>db tcp/100-200 a"])


def test_an_audited_deny_takes_nothing() -> None:
    audited = rule("d", "web", "db", "tcp/150", "deny", 'mode = "audit"\n')
    assert _changes(rule("a", "web", "db", "tcp/100-200", "allow"), audited) == ([], [])


def test_peers_that_come_go_and_move_are_named() -> None:
    moved = EXAMPLE.replace('mac = "52:54:00:aa:00:03"', 'mac = "52:54:00:aa:00:33"')
    diff = compare_policies(parse_policy(EXAMPLE), parse_policy(moved))
    assert len(diff.moved) == 1
    alone = parse_policy("schema = 1\n")
    assert compare_policies(alone, parse_policy(EXAMPLE)).added == tuple(sorted(PEERS))
    assert compare_policies(parse_policy(EXAMPLE), alone).removed == tuple(sorted(PEERS))


def _rules() -> st.SearchStrategy[str]:
    one = st.tuples(
        st.sampled_from(PEERS),
        st.sampled_from(PEERS),
        st.sampled_from(["tcp", "udp"]),
        st.integers(1, 12),
        st.integers(0, 6),
        st.sampled_from(["allow", "deny"]),
        st.sampled_from(["", 'tier = "mandatory"\n', 'mode = "audit"\n']),
    )
    return st.lists(one, max_size=6).map(
        lambda many: "".join(
            rule(f"r{at}", a, b, f"{proto}/{first}-{first + more}", action, extra)
            for at, (a, b, proto, first, more, action, extra) in enumerate(many)
        )
    )


def _allows(policy: Policy, source: str, destination: str, service: Service) -> bool:
    decider, _ = match_rules(policy, source, destination, service)
    return decider is not None and not denies(decider)


@settings(max_examples=150, deadline=None)
@given(_rules(), _rules())
def test_agrees_with_the_evaluator_for_every_flow(old: str, new: str) -> None:
    before, after = parse_policy(HEAD + old), parse_policy(HEAD + new)
    diff = compare_policies(before, after)
    for source in PEERS:
        for destination in PEERS:
            for protocol in (Protocol.TCP, Protocol.UDP):
                for port in range(1, 20):
                    was, will_be = (
                        _allows(one, source, destination, Service(protocol, port)) for one in (before, after)
                    )
                    said = [
                        any(
                            (one.source, one.destination, one.protocol) == (source, destination, protocol)
                            and one.first <= port <= one.last
                            for one in some
                        )
                        for some in (diff.gained, diff.lost)
                    ]
                    assert said == [will_be and not was, was and not will_be]


def test_a_large_change_is_compared_at_once() -> None:
    before = parse_policy(many_rules(100, 500, one_pair=False))
    after = parse_policy(many_rules(100, 600, one_pair=False))
    assert compare_policies(before, after).gained


INSPECT = 'inspect = { detectors = ["secrets"] }\n'


def test_flows_that_another_rule_inspects_otherwise_are_named_by_both() -> None:
    inspected = parse_policy(HEAD + rule("a", "web", "db", "tcp/100-200", "allow", INSPECT))
    for text, said in (
        (rule("b", "web", "db", "tcp/150", "allow"), (("a", "b"),)),
        (rule("b", "web", "db", "tcp/90-250", "allow", INSPECT), ()),
        (rule("a", "web", "db", "tcp/200", "allow"), (("a", "a"),)),
        (rule("b", "web", "db", "udp/150", "allow"), ()),
        (rule("b", "web", "db", "tcp/201", "allow"), ()),
    ):
        assert compare_policies(inspected, parse_policy(HEAD + text)).reruled == said
