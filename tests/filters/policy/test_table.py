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
