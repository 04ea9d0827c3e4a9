from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.errors import PolicyError
from filters.flow import FlowKey, Protocol, Service
from filters.policy.check import check_policy
from filters.policy.compiled import CompiledPolicy, compile_policy
from filters.policy.evaluator import AuthorityState, Facts, PeerFacts, Request, Verdict, evaluate
from filters.policy.model import Policy
from filters.policy.parser import parse_policy

EXAMPLE = Path("examples/policy.toml").read_text()
TRUSTED = {name: PeerFacts("trusted") for name in ("web", "db", "ops")}
SQL = Service(Protocol.TCP, 5432)


def compiled(policy: Policy) -> CompiledPolicy:
    return compile_policy(policy, interface="eth0", gateway_ip=IPv4Address("10.77.0.1"), control_port=7443)


def test_the_example_is_clean() -> None:
    assert check_policy(parse_policy(EXAMPLE)) == []


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ('action = "allow"', 'acton = "allow"', "unknown-key", "did you mean action"),
        ('from = "web"', 'from = "wbe"', "unknown-peer", "did you mean web"),
        ('service = "tcp/5432"', 'service = "tcp/99999"', "bad-value", "from 1 to 65535"),
        ('lease = "5m"', 'lease = "soon"', "bad-value", "duration"),
        ('lease = "5m"', 'inspect = { engine = "stream" }', "inspection-unsupported", "remove"),
        ("schema = 1", "schema = 2", "unknown-schema", "expected schema = 1"),
        ("schema = 1", "schema = [", "not-toml", "not TOML"),
        ('10 = "ref:nothing-else-ran"', '16 = "ref:x"', "bad-pcr", "reset by the guest"),
        ('ip = "10.77.0.3"', 'ip = "10.77.0.2"', "ambiguous", "already belongs to peer web"),
        ('id = "ops-ping"', 'id = "web-to-db"', "ambiguous", "used twice"),
        (
            'profile = "lab-peer"\ntags',
            'profile = "lab-per"\ntags',
            "unknown-profile",
            "did you mean lab-peer",
        ),
        ('tags = ["dmz"]', 'tags = "dmz"', "wrong-type", "must be a list"),
    ],
)
def test_rejects_with_place_and_advice(old: str, new: str, code: str, says: str) -> None:
    with pytest.raises(PolicyError, match=r"^my\.toml:\d+:\d+: ") as caught:
        parse_policy(EXAMPLE.replace(old, new, 1), "my.toml")
    assert caught.value.code == code
    assert says in caught.value.message


def test_an_error_names_the_line_and_column() -> None:
    broken = EXAMPLE.replace('service = "tcp/5432"', 'servcie = "tcp/5432"', 1)
    with pytest.raises(PolicyError) as caught:
        parse_policy(broken.replace("servcie", "service", 1).replace('"tcp/5432"', '"tcp/0"', 1))
    line = caught.value.params["line"]
    assert isinstance(line, int)
    assert EXAMPLE.splitlines()[line - 1].startswith("service")


@given(st.text(max_size=300))
def test_any_text_gives_a_policy_or_a_clear_error(text: str) -> None:
    try:
        parse_policy(text)
    except PolicyError as error:
        assert error.message.startswith("policy.toml:")


@given(st.integers(0, len(EXAMPLE) - 1), st.text(max_size=3))
def test_any_damage_gives_a_policy_or_a_clear_error(at: int, junk: str) -> None:
    try:
        parse_policy(EXAMPLE[:at] + junk + EXAMPLE[at + 1 :])
    except PolicyError as error:
        assert error.message.startswith("policy.toml:")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(AuthorityState.ABSENT, TRUSTED), "communication-disabled"),
        (Facts(AuthorityState.EXPIRED, TRUSTED), "authority-expired"),
        (Facts(AuthorityState.VALID, {**TRUSTED, "web": PeerFacts("failed")}), "not-attested"),
        (Facts(AuthorityState.VALID, {**TRUSTED, "db": PeerFacts("stale")}), "not-attested"),
        (Facts(AuthorityState.VALID, {**TRUSTED, "db": PeerFacts("quarantined")}), "peer-quarantined"),
        (Facts(AuthorityState.VALID, TRUSTED, session_open=False), "no-session"),
        (Facts(AuthorityState.VALID, TRUSTED, session_open=True), None),
    ],
)
def test_facts_decide_with_one_reason(facts: Facts, expected: str | None) -> None:
    decision = evaluate(parse_policy(EXAMPLE), Request("web", "db", SQL), facts)
    assert decision.reason == expected
    assert decision.advice


def test_the_reverse_direction_is_explained() -> None:
    decision = evaluate(
        parse_policy(EXAMPLE), Request("db", "web", SQL), Facts(AuthorityState.VALID, TRUSTED)
    )
    assert "other direction" in decision.conditions[1].detail


def test_mandatory_deny_beats_a_site_allow() -> None:
    text = EXAMPLE + '\n[[rule]]\nid = "open"\nfrom = "any"\nto = "any"\nservice = "any"\naction = "allow"\n'
    policy = parse_policy(text)
    facts = Facts(AuthorityState.VALID, TRUSTED)
    assert evaluate(policy, Request("web", "db", Service(Protocol.TCP, 23)), facts).reason == "denied-by-rule"
    assert evaluate(policy, Request("web", "db", Service(Protocol.TCP, 24)), facts).verdict is Verdict.ALLOW


def test_a_shadowed_rule_is_found() -> None:
    text = (
        EXAMPLE + '\n[[rule]]\nid = "telnet"\nfrom = "web"\nto = "db"\nservice = "tcp/23"\naction = "allow"\n'
    )
    assert ["telnet never decides" in one.message for one in check_policy(parse_policy(text))] == [True]


def test_a_failing_policy_test_is_an_error() -> None:
    findings = check_policy(parse_policy(EXAMPLE.replace('expect = "allow"', 'expect = "deny"')))
    assert [one.severity for one in findings] == ["error"]


PEERS = ("web", "db", "ops")
RULES = st.lists(
    st.tuples(
        st.sampled_from([*PEERS, "any"]), st.sampled_from([*PEERS, "any"]),
        st.sampled_from(["tcp/10-20", "tcp/15", "tcp/20-30", "udp/15", "icmp/echo", "any"]),
        st.sampled_from(["allow", "deny"]), st.sampled_from(["mandatory", "site", "session"]),
        st.sampled_from(["enforce", "audit"]),
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(RULES, st.permutations(range(8)))
def test_compiled_ranges_agree_with_the_evaluator(rules: list[tuple[str, ...]], order: list[int]) -> None:
    head = EXAMPLE[: EXAMPLE.index("[[rule]]")]
    blocks = [
        f'\n[[rule]]\nid = "r{at}"\nfrom = "{a}"\nto = "{b}"\nservice = "{s}"\naction = "{act}"\ntier = "{t}"\nmode = "{m}"\n'
        for at, (a, b, s, act, t, m) in enumerate(rules)
    ]
    policy = parse_policy(head + "".join(blocks))
    shuffled = parse_policy(head + "".join(blocks[at] for at in order if at < len(blocks)))
    kernel = compiled(policy)
    assert CompiledPolicy.from_json(kernel.to_json()) == kernel
    assert compiled(shuffled).allowed == kernel.allowed
    facts = Facts(AuthorityState.VALID, TRUSTED)
    for source in PEERS:
        for destination in PEERS:
            for service in [
                *(Service(Protocol.TCP, port) for port in (9, 10, 15, 20, 25, 31)),
                Service(Protocol.UDP, 15),
                Service(Protocol.ICMP, 0),
            ]:
                key = FlowKey(policy.peers[source].ip, policy.peers[destination].ip, service)
                allowed = (
                    evaluate(policy, Request(source, destination, service), facts).verdict is Verdict.ALLOW
                )
                assert (kernel.permits(key) is not None) == allowed
