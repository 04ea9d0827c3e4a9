"""Addresses and ports of headers."""

import pytest

from filters.inspection.suricata.addresses import Reader


def reader(**variables: str) -> Reader:
    return Reader(variables, set())


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("any", ["10.0.0.1", "::1"], []),
        ("10.0.0.1", ["10.0.0.1"], ["10.0.0.2", "::1"]),
        ("10.0.0.0/24", ["10.0.0.255"], ["10.0.1.0"]),
        ("!10.0.0.0/24", ["10.0.1.0"], ["10.0.0.1"]),
        ("[10.0.0.0/24,!10.0.0.5]", ["10.0.0.4"], ["10.0.0.5", "10.0.1.5"]),
        ("[10.0.0.0/8,![10.0.0.5,10.1.0.0/16]]", ["10.0.0.4"], ["10.0.0.5", "10.1.2.3", "11.0.0.0"]),
        ("10.0.0.5-10.0.0.9", ["10.0.0.5", "10.0.0.9"], ["10.0.0.10"]),
        ("2001:db8::/32", ["2001:db8::1"], ["2001:db9::1", "10.0.0.1"]),
        ("$NET", ["10.7.0.1"], ["10.8.0.1"]),
        ("!$NET", ["10.8.0.1"], ["10.7.0.1"]),
        ("[$NET,!10.7.0.9]", ["10.7.0.1"], ["10.7.0.9"]),
    ],
)
def test_reads_addresses(text: str, inside: list[str], outside: list[str]) -> None:
    found = reader(NET="[10.7.0.0/16]").addresses(text)
    assert [one for one in inside if one not in found] == []
    assert [one for one in outside if one in found] == []


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("any", [1, 65535], []), ("80", [80], [81]), ("!80", [81], [80]), ("80:90", [80, 90], [79, 91]), ("1024:", [1024, 65535], [1023]),
        (":1024", [0, 1024], [1025]), ("[80:100,!99]", [80, 100], [99, 101]), ("[1:80,![2,4]]", [1, 3], [2, 4, 81]), ("$WEB", [80, 8080], [81]),
    ],
)  # fmt: skip
def test_reads_ports(text: str, inside: list[int], outside: list[int]) -> None:
    found = reader(WEB="[80, 8080]").ports(text)
    assert [one for one in inside if one not in found] == []
    assert [one for one in outside if one in found] == []


def test_variables_that_nobody_set_are_any_and_named_also_where_they_are_negated() -> None:
    one = reader()
    assert "10.0.0.1" in one.addresses("$HOME_NET")
    assert "10.0.0.1" in one.addresses("!$EXTERNAL_NET")
    assert one.assumed == {"HOME_NET", "EXTERNAL_NET"}


@pytest.mark.parametrize(
    "text",
    ["10.0.0.256", "!any", "10.0.0.9-10.0.0.5", "", "[]", "[10.0.0.1", "$LOOP", "10.0.0.1/33", "x" * 200],
)
def test_refuses_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|deep|nobody"):
        reader(LOOP="$LOOP").addresses(text)


@pytest.mark.parametrize("text", ["65536", "123456", "90:80", ":", "", "http", "!any", "1:2:3", "-1"])
def test_refuses_bad_ports(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|nobody"):
        reader().ports(text)
