import pytest

from filters.errors import PolicyError
from filters.policy.expectations import STATES
from filters.policy.parser import parse_policy
from gateway.registry.states import PeerState
from tests.filters.policy.texts import EXAMPLE


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ('given = { web = "failed" }', 'given = { wbe = "failed" }', "unknown-peer", "did you mean web"),
        ('given = { web = "failed" }', 'given = { web = "fialed" }', "bad-value", "did you mean failed"),
        ('given = { web = "failed" }', "given = { web = 3 }", "wrong-type", "must be a text"),
        ('given = { web = "failed" }', "given = 3", "wrong-type", "given"),
        ('expect = "deny:not-attested"', 'expect = "deny:not-atested"', "bad-value", "did you mean deny:not-attested"),
        ('expect = "deny:not-attested"', 'expect = "maybe"', "bad-value", "must be one of"),
        ('flow = { from = "db"', 'flow = { from = "dbb"', "unknown-peer", "did you mean db"),
        ('flow = { from = "db"', 'flow = { form = "db"', "unknown-key", "did you mean from"),
        ('to = "web", service = "tcp/5432"', 'to = "web", service = "tcp/1-9"', "bad-value", "exactly one|one service"),
    ],
)  # fmt: skip
def test_rejects_with_place_and_advice(old: str, new: str, code: str, says: str) -> None:
    assert old in EXAMPLE
    with pytest.raises(PolicyError, match=says) as caught:
        parse_policy(EXAMPLE.replace(old, new, 1))
    assert caught.value.code == code


def test_reads_a_test() -> None:
    test = parse_policy(EXAMPLE).tests[1]
    assert (test.source, test.destination, str(test.service)) == ("web", "db", "tcp/5432")
    assert (dict(test.given), test.expect) == ({"web": "failed"}, "deny:not-attested")


def test_the_states_are_those_of_the_gateway() -> None:
    assert tuple(PeerState) == STATES
