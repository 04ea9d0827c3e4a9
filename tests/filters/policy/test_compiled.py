import json
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.errors import PolicyError
from filters.flow import FlowKey, Protocol, Service
from filters.netd.protocol import MAX_FRAME
from filters.policy import compiled as bounds
from filters.policy.assignments import assignments_of
from filters.policy.compiled import CompiledPolicy
from filters.policy.evaluator import AuthorityState, Facts, Request, evaluate
from filters.policy.model import Opening
from filters.policy.parser import parse_policy
from filters.reason import DropReason
from tests.filters.policy.texts import EXAMPLE, HEAD, PEERS, SQL, TRUSTED, compiled, rule

FACTS = Facts(AuthorityState.VALID, TRUSTED)
SERVICES = [
    *(Service(Protocol.TCP, port) for port in (9, 10, 14, 15, 16, 20, 25, 31, 65535)),
    *(Service(Protocol.UDP, port) for port in (14, 15)),
    Service(Protocol.ICMP, 0),
]
RULES = st.lists(
    st.tuples(
        st.sampled_from([*PEERS, "any", "tag:dmz"]), st.sampled_from([*PEERS, "any"]),
        st.sampled_from(["tcp/10-20", "tcp/15", "tcp/20-30", "tcp/31-65535", "udp/15", "icmp/echo", "any"]),
        st.sampled_from(["allow", "deny"]), st.sampled_from(["mandatory", "site", "session"]),
        st.sampled_from(["enforce", "audit"]), st.sampled_from(["request", "on-demand"]),
        st.sampled_from(["1m", "2m"]),
    ),
    max_size=8,
)  # fmt: skip


def blocks(rules: list[tuple[str, ...]]) -> list[str]:
    return [
        rule(f"r{at}", a, b, s, act, f'tier = "{t}"\nmode = "{m}"\nopen = "{o}"\nlease = "{lease}"\n')
        for at, (a, b, s, act, t, m, o, lease) in enumerate(rules)
    ]


@settings(max_examples=150, deadline=None)
@given(RULES)
def test_compiled_ranges_agree_with_the_evaluator(rules: list[tuple[str, ...]]) -> None:
    policy = parse_policy(HEAD + "".join(blocks(rules)))
    kernel = compiled(policy)
    for source in PEERS:
        for destination in PEERS:
            for service in SERVICES:
                decision = evaluate(policy, Request(source, destination, service), FACTS)
                key = FlowKey(policy.peers[source].ip, policy.peers[destination].ip, service)
                allowed, denied = kernel.permits(key), kernel.denies(key)
                assert (allowed is not None) == (decision.reason is None)
                assert (denied is not None) == (decision.reason is DropReason.DENIED_BY_RULE)
                for found in (allowed, denied):
                    if found is not None:
                        assert decision.rule is not None
                        on_demand = decision.rule.opening is Opening.ON_DEMAND
                        wanted = (decision.rule.id, on_demand, decision.rule.lease_ms)
                        assert (found.rule, found.on_demand, found.lease_ms) == wanted


@settings(max_examples=100, deadline=None)
@given(RULES, st.permutations(range(8)))
def test_the_order_of_rules_does_not_matter(rules: list[tuple[str, ...]], order: list[int]) -> None:
    texts = blocks(rules)
    kernel = compiled(parse_policy(HEAD + "".join(texts)))
    shuffled = compiled(parse_policy(HEAD + "".join(texts[at] for at in order if at < len(texts))))
    assert (kernel.allowed, kernel.denied) == (shuffled.allowed, shuffled.denied)


@settings(max_examples=100, deadline=None)
@given(RULES)
def test_ranges_of_one_pair_and_protocol_never_overlap(rules: list[tuple[str, ...]]) -> None:
    kernel = compiled(parse_policy(HEAD + "".join(blocks(rules))))
    last: dict[tuple[IPv4Address, IPv4Address, Protocol], int] = {}
    for one in sorted([*kernel.allowed, *kernel.denied]):
        where = one.source, one.destination, one.protocol
        assert last.get(where, -1) < one.first <= one.last
        last[where] = one.last


@given(RULES)
@settings(max_examples=30, deadline=None)
def test_json_and_back(rules: list[tuple[str, ...]]) -> None:
    kernel = compiled(parse_policy(HEAD + "".join(blocks(rules))))
    assert CompiledPolicy.from_json(json.loads(kernel.canonical())) == kernel


def test_neighbouring_pieces_of_one_rule_are_joined() -> None:
    text = (
        HEAD
        + rule("wide", "web", "db", "tcp/1-100", "allow")
        + rule("weak", "web", "db", "tcp/50", "deny", 'tier = "session"')
    )
    assert [(one.first, one.last, one.rule) for one in compiled(parse_policy(text)).allowed] == [
        (1, 100, "wide")
    ]


def test_the_last_port_is_a_port() -> None:
    kernel = compiled(parse_policy(HEAD + rule("r", "web", "db", "tcp/65535", "allow")))
    ends = IPv4Address("10.77.0.2"), IPv4Address("10.77.0.3")
    assert kernel.permits(FlowKey(*ends, Service(Protocol.TCP, 65535)))
    assert kernel.permits(FlowKey(*ends, Service(Protocol.TCP, 65534))) is None


def test_an_address_nobody_has_is_permitted_nothing() -> None:
    stranger = FlowKey(IPv4Address("10.77.0.99"), IPv4Address("10.77.0.3"), SQL)
    kernel = compiled(parse_policy(EXAMPLE))
    assert kernel.permits(stranger) is None
    assert kernel.denies(stranger) is None


def test_every_peer_is_pinned() -> None:
    pins = compiled(parse_policy(EXAMPLE)).pins
    assert [(str(pin.ip), pin.peer) for pin in pins] == [
        ("10.77.0.2", "web"),
        ("10.77.0.3", "db"),
        ("10.77.0.4", "ops"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"pins": [["10.77.0.2"]]},
        {"pins": None},
        {"allowed": [["10.77.0.2", "10.77.0.3", 99, 1, 1, False, 1, "r"]]},
        {"allowed": [["10.77.0.2", "nowhere", 6, 1, 1, False, 1, "r"]]},
        {"denied": [[]]},
        {"gateway_ip": "10.77.0"},
        {"control_port": "x"},
    ],
)
def test_rejects_what_is_no_compiled_policy(change: dict[str, object]) -> None:
    with pytest.raises(PolicyError, match="not a compiled policy"):
        CompiledPolicy.from_json(compiled(parse_policy(EXAMPLE)).to_json() | change)


def test_rejects_a_compiled_policy_with_a_part_missing() -> None:
    whole = compiled(parse_policy(EXAMPLE)).to_json()
    for key in whole:
        with pytest.raises(PolicyError):
            CompiledPolicy.from_json({name: value for name, value in whole.items() if name != key})


def test_rejects_more_ranges_than_netd_takes_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = parse_policy(EXAMPLE + rule("r" * 64, "any", "any", "any", "allow"))
    whole = compiled(policy)
    monkeypatch.setattr(bounds, "MAX_BYTES", 3000)
    with pytest.raises(PolicyError, match=r"rule r{64} \(line \d+\), expected 3000 bytes") as caught:
        compiled(policy)
    assert caught.value.code == "too-large"
    assert len(whole.allowed) > 3000 // 200


def test_rejects_more_ranges_than_an_inspector_takes_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    types = ", ".join(f'"image/x-{at}"' for at in range(100))
    wide = EXAMPLE + rule(
        "wide", "any", "any", "tcp/80", "allow", f"inspect = {{ allow_types = [{types}] }}\n"
    )
    monkeypatch.setattr(bounds, "MAX_BYTES", 3000)
    with pytest.raises(PolicyError, match=r"or an inspector is given at once: .* rule wide "):
        compiled(parse_policy(wide))
    compiled(parse_policy(wide.replace("inspect =", "#")))


def test_what_compiles_fits_into_a_message_to_netd_and_to_an_inspector() -> None:
    """What a range is counted for is never less than what it is on the wire."""
    far = EXAMPLE.replace("10.77.0.", "210.177.100.20")
    inspect = 'lease = "30d"\ninspect = { offload_after = "1MiB" }\n'
    policy = parse_policy(far + rule("r" * 64, "any", "any", "tcp/60000-65535", "allow", inspect))
    whole = compiled(policy)
    one = next(one for one in whole.allowed if one.offloads)
    names = bounds._RANGE_BYTES + sum(len(str(ip)) for ip in (one.source, one.destination)) + len(one.rule)
    told = {
        json.dumps(bounds._range_to_json(one), separators=(",", ":")): names + len(one.offloads),
        json.dumps(assignments_of(policy, whole)[0].to_json(), separators=(",", ":")): names
        + bounds._spec_bytes(policy.rules[-1]),
    }
    for wire, counted in told.items():
        assert len(wire) + len(",") <= counted
    assert bounds.MAX_BYTES + (2 << 20) < MAX_FRAME
