import pytest

from filters.errors import PolicyError
from filters.inspection.objects.file_type import FAMILIES
from filters.netd.arguments import MAX_TTL_MS
from filters.policy.model import Action, Mode, Opening, Rule, Tier
from filters.policy.parser import parse_policy
from filters.policy.rules import MAX_LEASE_MS
from tests.filters.policy.texts import EXAMPLE, HEAD, PEERS, rule


def parsed(text: str) -> Rule:
    return parse_policy(HEAD + text).rules[0]


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ('from = "web"', 'from = "wbe"', "unknown-peer", "did you mean web"),
        ('from = "web"', 'from = "tag:dzm"', "unknown-tag", "no peer has the tag 'dzm'; did you mean dmz?"),
        ('from = "web"', "from = []", "bad-value", "names nobody"),
        ('from = "web"', "from = 3", "wrong-type", "must be a text"),
        ('from = "web"', 'form = "web"', "unknown-key", "did you mean from"),
        ('service = "tcp/5432"', 'service = "tcp/99999"', "bad-value", "from 1 to 65535"),
        ('service = "tcp/5432"', "service = []", "bad-value", "speaks about nothing"),
        ('service = "tcp/5432"', 'service = ["tcp/1", "sctp/2"]', "bad-value", "expected tcp/PORT"),
        ('action = "allow"', 'action = "alow"', "bad-value", "did you mean allow"),
        ('lease = "5m"', 'lease = "soon"', "bad-value", "duration"),
        ('lease = "5m"', 'lease = "31d"', "bad-value", "30d at most"),
        ('lease = "5m"', 'tier = "first"', "bad-value", "mandatory, site, session"),
        ('lease = "5m"', 'mode = "off"', "bad-value", "enforce, audit"),
        ('lease = "5m"', 'open = "always"', "bad-value", "request, on-demand"),
        ('lease = "5m"', 'inspect = { engine = "packet" }', "bad-value", "stream"),
        ('lease = "5m"', 'inspect = { detectors = ["secret"] }', "bad-value", "did you mean secrets"),
        ('lease = "5m"', 'inspect = { detector = ["secrets"] }', "unknown-key", "did you mean detectors"),
        ('lease = "5m"', 'inspect = { protocol = "htp" }', "bad-value", "did you mean http"),
        (
            'lease = "5m"',
            'inspect = { deny_types = ["executables"] }',
            "bad-value",
            "did you mean executable?",
        ),
        ('lease = "5m"', "inspect = { allow_types = [] }", "bad-value", "names no type; leave it out"),
        (
            'lease = "5m"',
            'inspect = { deny_types = ["application/PDF"] }',
            "bad-value",
            "expected application/pdf, as it is told",
        ),
        (
            'lease = "5m"',
            'inspect = { deny_types = ["application/cdfv2"] }',
            "bad-value",
            "expected application/CDFV2",
        ),
        ('lease = "5m"', 'inspect = { offload_after = "1MB" }', "bad-value", "a size such as"),
        ('lease = "5m"', 'inspect = { offload_after = "0KiB" }', "bad-value", "a size such as"),
        (
            'lease = "5m"',
            'inspect = { offload_after = "1MiB", hold = "object" }',
            "bad-value",
            "held as a whole",
        ),
        (
            'service = "tcp/5432"',
            'service = "udp/53"\ninspect = { hold = "object" }',
            "bad-value",
            "TCP alone carries",
        ),
        (
            'service = "tcp/5432"',
            'service = "udp/53"\ninspect = { protocol = "http" }',
            "bad-value",
            "only dns can be demanded",
        ),
        (
            'service = "tcp/5432"',
            'service = "udp/53"\ninspect = { engine = "stream" }',
            "bad-value",
            "expected the engine of its services, packet",
        ),
        ('id = "web-to-db"', 'id = ""', "bad-value", "letters, digits"),
        ('id = "web-to-db"', 'id = "a\\u001b[2Jb"', "bad-value", "letters, digits"),
    ],
)
def test_rejects_with_place_and_advice(old: str, new: str, code: str, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(EXAMPLE.replace(old, new, 1))
    assert caught.value.code == code
    assert says in caught.value.message


def test_a_rule_has_defaults() -> None:
    one = parsed(rule("r", "web", "db", "udp/53", "allow"))
    assert (one.tier, one.mode, one.opening) == (Tier.SITE, Mode.ENFORCE, Opening.REQUEST)
    assert (one.action, one.lease_ms) == (Action.ALLOW, 300_000)


def test_ends_are_resolved() -> None:
    assert parsed(rule("r", "any", "tag:dmz", "any", "allow")).sources == frozenset(PEERS)
    assert parsed(rule("r", "any", "tag:dmz", "any", "allow")).destinations == frozenset({"web"})
    several = rule("r", "X", "db", "any", "allow").replace('"X"', '["ops", "tag:dmz"]')
    assert parsed(several).sources == frozenset({"ops", "web"})


def test_services_may_be_a_list() -> None:
    one = parsed(rule("r", "web", "db", "X", "allow").replace('"X"', '["tcp/80", "tcp/443", "icmp/echo"]'))
    assert [(span.protocol.name, span.first) for span in one.services] == [
        ("TCP", 80),
        ("TCP", 443),
        ("ICMP", 0),
    ]


def test_a_lease_is_never_longer_than_the_kernel_side_grants() -> None:
    assert MAX_LEASE_MS == MAX_TTL_MS
    assert parsed(rule("r", "web", "db", "any", "allow", 'lease = "30d"')).lease_ms == MAX_LEASE_MS


def test_names_of_types_with_capitals_are_those_that_are_told_so() -> None:
    one = parsed(
        rule(
            "r", "web", "db", "any", "allow", 'inspect = { deny_types = ["application/CDFV2", "video/MP2T"] }'
        )
    )
    assert one.inspection is not None
    assert one.inspection.deny_types == frozenset({"application/CDFV2", "video/MP2T"})
    assert "application/CDFV2" in FAMILIES["document"]
    small = {word for members in FAMILIES.values() for word in members} - {"application/CDFV2"}
    assert all(word == word.lower() for word in small)
