import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.errors import PolicyError
from filters.policy.check import check_policy
from filters.policy.parser import MAX_TEXT, parse_policy
from tests.filters.policy.texts import EXAMPLE, compiled, many_rules


def refused(text: str) -> PolicyError:
    with pytest.raises(PolicyError, match=r"^my\.toml:\d+:\d+: ") as caught:
        parse_policy(text, "my.toml")
    return caught.value


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ("schema = 1", "schema = 2", "unknown-schema", "expected schema = 1"),
        ("schema = 1", "schema = [", "not-toml", "not TOML"),
        ("schema = 1", "shcema = 1", "unknown-key", "did you mean schema"),
        ("schema = 1", "", "missing-key", "`schema` is missing"),
        ("schema = 1", "schema = true", "wrong-type", "must be a whole number"),
        ("[peer.web]", "[peer.Web]", "bad-name", "begins with a letter"),
        ("[peer.web]", "[[peer.web]]", "wrong-type", "expected a table"),
        ('ip = "10.77.0.3"', 'ip = "10.77.0.2"', "ambiguous", "already belongs to peer web"),
        (
            'mac = "52:54:00:aa:00:03"',
            'mac = "52:54:00:aa:00:02"',
            "ambiguous",
            "already belongs to peer web",
        ),
        ('port = "db"', 'port = "web"', "ambiguous", "already belongs to peer web"),
        ("[peer.web]", "[peer.any]", "bad-name", "in a rule 'any' is every peer"),
        ('id = "ops-ping"', 'id = "web-to-db"', "ambiguous", "used twice"),
    ],
)
def test_rejects_with_place_and_advice(old: str, new: str, code: str, says: str) -> None:
    error = refused(EXAMPLE.replace(old, new, 1))
    assert error.code == code
    assert says in error.message


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


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab:/-19", max_size=8) | st.just("1979-05-27"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool) or value is None:
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


KEYED = [number for number, line in enumerate(EXAMPLE.splitlines()) if " = " in line]


@given(st.sampled_from(KEYED), VALUES)
def test_any_value_of_any_type_gives_a_policy_or_a_clear_error(number: int, value: object) -> None:
    lines = EXAMPLE.splitlines()
    lines[number] = lines[number].split(" = ")[0] + " = " + toml(value)
    try:
        parse_policy("\n".join(lines))
    except PolicyError as error:
        assert error.message.startswith("policy.toml:")


def test_rejects_text_that_is_not_unicode() -> None:
    error = refused(EXAMPLE + "# \ud800\n")
    assert error.params["line"] == len(EXAMPLE.splitlines()) + 1


@pytest.mark.parametrize("text", ["schema = " + "9" * 5000, "a = " + "[" * 100_000, "schema = 1979-99-99"])
def test_rejects_what_breaks_the_toml_reader(text: str) -> None:
    assert refused(text).code == "not-toml"


def test_rejects_a_dotted_key_that_would_take_all_memory() -> None:
    error = refused("schema = 1\n" + ".".join("a" * 100_000) + " = 1\n")
    assert (error.code, error.params["line"]) == ("not-toml", 2)


def test_a_comment_may_have_many_dots() -> None:
    assert parse_policy(EXAMPLE + "  # " + "." * 200 + "\n").rules


def test_rejects_a_text_that_is_too_large() -> None:
    assert refused("#" * (MAX_TEXT + 1)).code == "too-large"


def test_an_empty_policy_allows_nothing() -> None:
    policy = parse_policy("schema = 1\n")
    assert (policy.peers, policy.rules) == ({}, ())


def test_the_revision_names_the_text() -> None:
    assert parse_policy(EXAMPLE).revision == parse_policy(EXAMPLE, "other.toml").revision
    assert parse_policy(EXAMPLE).revision != parse_policy(EXAMPLE + "#").revision


@pytest.mark.parametrize("one_pair", [False, True])
def test_a_large_policy_is_ready_at_once(one_pair: bool) -> None:
    """Five times what was measured; reading places or shadows by the square took 30 s."""
    text = many_rules(1000, 5000, one_pair=one_pair)
    began = time.process_time()
    policy = parse_policy(text)
    compiled(policy)
    check_policy(policy)
    assert time.process_time() - began < 3.0


def test_rejects_one_tpm_for_two_peers() -> None:
    tpm = f', ek = "sha256:{"9f" * 32}" }}\nprofile'
    error = refused(EXAMPLE.replace(" }\nprofile", tpm))
    assert error.code == "ambiguous"
    assert "ek sha256:9f" in error.message


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema = 1", "\ufeffschema = 1", "U+FEFF, a byte order mark; save the file as UTF-8 without it"),
        ('id = "web-to-db"', "id = \u201cweb-to-db\u201d", "U+201C, LEFT DOUBLE QUOTATION MARK"),
        ("lease =", "l\u0435ase =", "U+0435, CYRILLIC SMALL LETTER IE"),
        ("lease =", "lease\u00a0=", "U+00A0, NO-BREAK SPACE"),
        ("lease =", "\0lease =", "U+0000, a control character"),
    ],
)
def test_rejects_what_an_editor_does_not_show_by_its_name(old: str, new: str, says: str) -> None:
    error = refused(EXAMPLE.replace(old, new, 1))
    assert (error.code, error.params["line"]) == ("not-toml", EXAMPLE[: EXAMPLE.index(old)].count("\n") + 1)
    assert says in error.message


def test_rejects_letters_that_only_look_right_in_plain_ones() -> None:
    error = refused(EXAMPLE.replace('from = "web"', 'from = "w\u0435b"', 1))
    assert "there is no peer 'w\\u0435b'; did you mean web?" in error.message
    assert error.message.isascii()


def test_rejects_a_huge_value_in_a_short_message() -> None:
    error = refused(EXAMPLE.replace('lease = "5m"', f'lease = "{"x" * 100_000}"', 1))
    assert len(error.message) < 1100
