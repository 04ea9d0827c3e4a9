"""What a change would do, said beforehand."""

from dataclasses import replace
from ipaddress import IPv4Address

from filters.flow import FlowKey, Protocol, Service
from filters.policy.model import Policy
from filters.policy.parser import parse_policy
from gateway.policy.plan import Plan, make_plan
from gateway.sessions.book import Session
from tests.filters.policy.texts import HEAD, compiled, rule

ENROLLED = "sha256:" + "11" * 32
BEFORE = parse_policy(
    HEAD + rule("a", "web", "db", "tcp/5432", "allow") + rule("b", "web", "ops", "tcp/22", "allow")
)


def _session(policy: Policy, source: str, destination: str, port: int) -> Session:
    service = Service(Protocol.TCP, port)
    key = FlowKey(policy.peers[source].ip, policy.peers[destination].ip, service)
    return Session(f"s{port}", port, source, destination, service, key, "r", 0.0, 1.0)


def _plan(after: Policy) -> Plan:
    live = [_session(BEFORE, "web", "db", 5432), _session(BEFORE, "web", "ops", 22)]
    return make_plan(BEFORE, after, compiled(BEFORE), compiled(after), live, {"ops": ENROLLED})


def test_names_what_is_gained_lost_and_cut() -> None:
    plan = _plan(parse_policy(HEAD + rule("a", "web", "db", "tcp/5432-5433", "allow"))).to_json()
    assert plan["gained"] == [{"from": "web", "to": "db", "service": "tcp/5433", "rule": "a"}]
    assert plan["lost"] == [{"from": "web", "to": "ops", "service": "tcp/22", "rule": "b"}]
    assert [one["session_id"] for one in plan["sessions_cut"]] == ["s22"]


def test_a_peer_that_moves_cuts_its_sessions() -> None:
    """The same names and rules at another address: live flows have the old one."""
    text = HEAD + rule("a", "web", "db", "tcp/5432", "allow") + rule("b", "web", "ops", "tcp/22", "allow")
    moved = parse_policy(text.replace(str(BEFORE.peers["ops"].ip), "10.77.0.99"))
    plan = _plan(moved)
    assert [one.session_id for one in plan.cut] == ["s22"]
    assert plan.diff.moved == ("ops",)
    assert not (plan.diff.gained or plan.diff.lost)


def test_a_peer_that_must_prove_something_else_loses_its_sessions() -> None:
    ops = BEFORE.peers["ops"]
    spec = BEFORE.profiles[ops.profile]
    tight = replace(spec, name="tight", pcrs={**spec.pcrs, 14: "ref:more"})
    for peers, profiles, cut in (
        (BEFORE.peers, {**BEFORE.profiles, ops.profile: replace(tight, name=ops.profile)}, ["s5432", "s22"]),
        (
            {**BEFORE.peers, "ops": replace(ops, profile="tight")},
            {**BEFORE.profiles, "tight": tight},
            ["s22"],
        ),
        ({**BEFORE.peers, "ops": replace(ops, ek="sha256:" + "9f" * 32)}, BEFORE.profiles, ["s22"]),
    ):
        plan = _plan(replace(BEFORE, peers=peers, profiles=profiles))  # type: ignore[arg-type]
        assert [one.session_id for one in plan.cut] == cut
        assert "ops" in plan.diff.moved


def test_naming_the_tpm_that_a_peer_has_cuts_nothing() -> None:
    peers = {**BEFORE.peers, "ops": replace(BEFORE.peers["ops"], ek=ENROLLED)}
    plan = _plan(replace(BEFORE, peers=peers))
    assert (plan.cut, plan.diff.moved) == ((), ("ops",))


def test_shows_the_ruleset_element_by_element() -> None:
    web, ops = BEFORE.peers["web"].ip, BEFORE.peers["ops"].ip
    plan = _plan(parse_policy(HEAD + rule("a", "web", "db", "tcp/5432", "allow")))
    assert f"- allowed {web} . {ops} . tcp . 22" in plan.ruleset
    assert _plan(BEFORE).ruleset == ()
    assert isinstance(web, IPv4Address)


def test_names_rules_that_inspect_otherwise_and_the_sessions_that_end_with_it() -> None:
    inspected = rule("a", "web", "db", "tcp/5432", "allow") + 'inspect = { detectors = ["secrets"] }\n'
    plan = _plan(parse_policy(HEAD + inspected + rule("b", "web", "ops", "tcp/22", "allow")))
    assert plan.inspection == ("rule a: not inspected -> inspected (secrets)",)
    assert [one.session_id for one in plan.cut] == ["s5432"]
    assert not (plan.diff.gained or plan.diff.lost)


def test_names_flows_that_another_rule_lets_past_the_inspectors() -> None:
    inspected = parse_policy(
        HEAD + rule("a", "web", "db", "tcp/5432", "allow") + 'inspect = { detectors = ["secrets"] }\n'
    )
    draft = parse_policy(HEAD + rule("b", "web", "db", "any", "allow"))
    plan = make_plan(inspected, draft, compiled(inspected), compiled(draft), (), {})
    assert plan.inspection == ("flows of rule a, then of rule b: inspected (secrets) -> not inspected",)
