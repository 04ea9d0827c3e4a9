import pytest

from filters.errors import PolicyError
from filters.policy import matching
from filters.policy.check import check_policy
from filters.policy.parser import parse_policy
from tests.filters.policy.texts import HEAD, compiled, rule

WIDE = parse_policy(
    HEAD + rule("narrow", "web", "db", "tcp/1", "allow") + rule("wide", "any", "any", "any", "allow")
)


@pytest.mark.parametrize(("bound", "value"), [("MAX_PAIRS", 3), ("MAX_MENTIONS", 9)])
def test_rejects_rules_about_more_pairs_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    check_policy(WIDE)
    monkeypatch.setattr(matching, bound, value)
    for ask in (check_policy, compiled):
        with pytest.raises(PolicyError, match=r"rule wide \(line \d+\) alone has 9: name fewer") as caught:
            ask(WIDE)
        assert caught.value.code == "too-large"


def test_an_allow_with_inspection_decides_before_one_without_whatever_their_names() -> None:
    plain = rule("a", "any", "db", "tcp/80", "allow")
    inspected = rule("z", "web", "db", "tcp/1-100", "allow") + "inspect = { }\n"
    both = parse_policy(HEAD + plain + inspected.replace("{ }", '{ detectors = ["secrets"] }'))
    (found,) = [one for one in compiled(both).allowed if one.source == both.peers["web"].ip]
    assert (found.rule, found.first, found.last, found.inspected) == ("z", 1, 100, True)


def test_an_allow_without_inspection_of_an_earlier_tier_is_an_exception() -> None:
    plain = rule("z", "web", "db", "tcp/80", "allow", 'tier = "mandatory"\n')
    inspected = rule("a", "web", "db", "tcp/80", "allow") + 'inspect = { detectors = ["secrets"] }\n'
    (found,) = compiled(parse_policy(HEAD + plain + inspected)).allowed
    assert (found.rule, found.inspected) == ("z", False)
