import pytest

from filters.errors import PolicyError
from filters.policy.parser import parse_policy
from filters.policy.table import Source
from tests.filters.policy.texts import EXAMPLE


def place(text: str) -> tuple[object, object]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    return caught.value.params["line"], caught.value.params["column"]


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        ('service = "tcp/5432"\naction', 'service = "tcp/0"\naction', 1),
        ('mac = "52:54:00:aa:00:03"', 'mac = "52:54"', 24),
        ('lease = "5m"', '    lease = "soon"', 5),
        ('window = "15m"', 'window = "soon"', 49),
    ],
)
def test_an_error_names_its_line_and_column(old: str, new: str, column: int) -> None:
    at = EXAMPLE.index(old)
    assert place(EXAMPLE[:at] + new + EXAMPLE[at + len(old) :]) == (EXAMPLE[:at].count("\n") + 1, column)


def test_a_line_is_what_toml_calls_one() -> None:
    """Other line separators that Python knows may stand in a comment."""
    strange = "# \u2028 \u2029 \x85 here\n" + EXAMPLE.replace('lease = "5m"', 'lease = "soon"')
    assert place(strange)[0] == strange[: strange.index("lease")].count("\n") + 1


@pytest.mark.parametrize(
    "header", ["[peer.web]", '[ peer . "web" ]', "\t[peer.'web'] # here", "[[peer.web]]"]
)
def test_finds_a_header_however_it_is_written(header: str) -> None:
    assert Source.of(f"schema = 1\n\n{header}\n", "f").header_line("peer.web") == 3


def test_counts_headers_of_one_name() -> None:
    source = Source.of("[[rule]]\n[[rule]]\n\n[[rule]]\n", "f")
    assert [source.header_line("rule", at) for at in range(4)] == [1, 2, 4, 1]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('action = "allow"', 'acton = "allow"', "did you mean action"),
        ('lease = "5m"', 'leese = "5m"', "did you mean lease"),
        ('tags = ["dmz"]', "colour = 3", "unknown key `colour`"),
    ],
)
def test_rejects_unknown_keys_with_a_suggestion(old: str, new: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        parse_policy(EXAMPLE.replace(old, new, 1))
    assert caught.value.code == "unknown-key"


NESTED = """
schema = 1
[profile.p.pcrs.sha256]
4 = "ref:code"
[profile.p.on_fail]
window = "15m"
[peer.web]
profile = "p"
match.port = "web"
match.mac = "52:54:00:aa:00:02"
match.ip = "10.77.0.2"
[peer.db.match]
port = "db"
'mac' = "52:54:00:aa:00:03"
ip = "10.77.0.3"
[peer.db]
profile = "p"
[[rule]]
id = "one"
from = "web"
to = "db"
service = "tcp/80"
action = "allow"
[rule.inspect]
hold = "object"
[[rule]]
id = "two"
from = "db"
to = "web"
service = "tcp/80"
action = "allow"
[rule.inspect]
hold = "piece"
[[test]]
flow.from = "web"
flow.to = "db"
flow.service = "tcp/80"
expect = "allow"
"""


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        ('4 = "ref:code"', '16 = "ref:code"', 1),
        ('window = "15m"', 'window = "soon"', 1),
        ('match.mac = "52', 'match.mac = "x52', 7),
        ("'mac' = \"52", "'mac' = \"x52", 1),
        ('[peer.db]\nprofile = "p"', '[peer.db]\nprofile = "q"', 1),
        ('hold = "object"', 'hold = "objects"', 1),
        ('hold = "piece"', 'hold = "pieces"', 1),
        ('flow.to = "db"', 'flow.to = "bd"', 6),
    ],
)
def test_an_error_in_a_table_of_its_own_names_its_line(old: str, new: str, column: int) -> None:
    assert parse_policy(NESTED)
    wrong = NESTED.replace(old, new)
    lines = zip(NESTED.split("\n"), wrong.split("\n"), strict=True)
    at = next(number for number, (was, now) in enumerate(lines, 1) if was != now)
    assert place(wrong) == (at, column)


def test_a_key_that_another_peer_has_is_not_taken_for_the_one_in_error() -> None:
    text = 'schema = 1\nprofile.p.pcrs.sha256.4 = "ref:code"\n' + "".join(
        f'peer.{name}.match = {{ port = "{name}", mac = "52:54:00:aa:00:0{at}", ip = "{ip}" }}\npeer.{name}.profile = "p"\n'
        for at, (name, ip) in enumerate((("a", "10.77.0.2"), ("b", "10.77.0.300")))
    )
    assert place(text) == (5, text.split("\n")[4].index("ip =") + 1)


def test_rules_in_one_list_are_where_the_list_is() -> None:
    assert place('schema = 1\n\nrule = [\n { id = "" },\n]\n')[0] == 4
    assert place("schema = 1\n\nrule = [1]\n") == (3, 1)
