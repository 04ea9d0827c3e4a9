"""The shipped patterns: each is found in an example, and look-alikes are not."""

import random

import pytest

from filters.errors import PolicyError
from filters.inspection.matching.database import Database
from filters.inspection.patterns.checksums import chinese_id, iban, luhn, mixed, us_ssn
from filters.inspection.patterns.load import parse_patterns, secrets
from filters.inspection.patterns.personal import PERSONAL
from tests.filters.inspection.test_scanner import scan

DATABASE = Database((*secrets(), *PERSONAL))
HEX, MIXED = "0123456789abcdef", "aB3dE6gH9jK2mN5pQ8sTvW1xY4zC7fJ0"
EXAMPLES = {
    "github-token": b"ghp_" + MIXED.encode() + b"abcd",
    "slack-bot": b"xoxb-123456789012-123456789012-" + b"aB3dE6gH9jK2mN5pQ8sTvW1x",
    "gcp-api-key": b"AIza" + b"SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "private-key": b"-----BEGIN " + b"RSA PRIVATE KEY-----",
    "url-password": b"postgres://app:s3cr3t-pass@db.example:5432/x",
    "jwt": b"eyJhbGciOiJIUzI1NiJ9." + b"eyJzdWIiOiIxMjM0NTY3ODkwIn0." + b"dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "assigned-password": b'password = "aX9$kLm2pQ7z"',
    "assigned-datadog": b'DATADOG_KEY: "' + b"a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6q7r8s9t0" + b'"',
    "payment-card": b"card 4111 1111 1111 1111 ok",
    "payment-card-amex": b"amex 3782 822463 10005 ok",
    "chinese-resident-id": "身份证 11010519491231002X。".encode(),
    "iban": b"to DE89 3704 0044 0532 0130 00 now",
    "us-ssn": b"SSN: 123-45-6789",
    "aws-access-key": b"AKIA" + b"QYLPMN5HIEXAMPLE",
    "shadow-hash": b"\nroot:$6$abcdefgh$" + b"x" * 86 + b":19000:",
    "alibaba-access-key": b"LTAI" + b"5tBcDeFgHiJkLmNoPqRs",
}  # fmt: skip
HARMLESS = (
    b"4111 1111 1111 1112", b"0000 0000 0000 0000", b"11010519491331002X", b"DE89 3704 0044 0532 0130 01", b"ssn: 000-12-3456",
    b'password = "aaaaaaaa"', b'password = os.environ["PASSWORD"]', b"https://example.org:443/path@x", b"sk-learn-is-a-library",
    b"the quick brown fox", b"ghp_short", b"-----BEGIN CERTIFICATE-----", b"1234-5678-9012", bytes(range(256)) * 20,
)  # fmt: skip


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_finds(name: str) -> None:
    assert name in {one.pattern.id for one in scan([b"before " + EXAMPLES[name] + b" after"], DATABASE)}


@pytest.mark.parametrize("text", HARMLESS)
def test_look_alikes_are_no_finding(text: bytes) -> None:
    assert scan([text], DATABASE) == []


def test_there_are_two_hundred_real_secret_patterns() -> None:
    assert len(secrets()) >= 200


def test_random_digits_are_seldom_a_card() -> None:
    numbers = ["4" + "".join(random.choices("0123456789", k=15)) for _ in range(2000)]
    assert 100 < sum(luhn(one.encode()) for one in numbers) < 320  # one in ten: the check digit works


def test_checksums() -> None:
    assert iban(b"GB82 WEST 1234 5698 7654 32")
    assert not iban(b"GB82 WEST 1234 5698 7654 3")
    assert chinese_id(b"11010519491231002x")
    assert us_ssn(b"123-45-6789")
    assert not us_ssn(b"666-45-6789")
    assert mixed(b'key = "aX9kLm2pQ7zW4"')
    assert not mixed(b'key = "abcdefghijkl"')


def test_marks_are_found_in_every_encoding_of_documents() -> None:
    patterns = parse_patterns(
        '[[mark]]\nid = "secret"\nwords = ["机密", "機密", "Company Confidential"]\n', "marks", "m.toml"
    )
    database = Database(patterns)
    for encoding in ("utf-8", "utf-16-le", "utf-16-be", "gb18030", "big5"):
        mark = "機密" if encoding == "big5" else "机密"
        assert scan([b"\0\0" + mark.encode(encoding) + b"\0\0"], database), encoding
    assert scan([b"COMPANY CONFIDENTIAL"], database)
    assert scan(["Company Confidential".encode("utf-16-le")], database)
    assert not scan(["机器密码".encode()], database)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[pattern]]\nid='x'", "expression"),
        ("[[pattern]]\nid='X y'\nexpression='a'", "lower-case"),
        ("[[pattern]]\nid='x'\nexpression='a'\nkeyword='b'", "keyword"),
        ("[[patern]]\nid='x'", "patern"),
        ("[[mark]]\nid='m'\nwords=['a']", "two characters"),
        ("[[pattern]]\nid='x'\nexpression='a'\n[[pattern]]\nid='x'\nexpression='b'", "two patterns"),
        ("not toml", "m.toml"),
    ],
)
def test_rejects_pattern_files_by_name(text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        parse_patterns(text, "patterns", "m.toml")


def test_numbers_inside_boundaries_and_identifiers_are_no_cards() -> None:
    for number in range(300):
        random.seed(number)
        digits = "4" + "".join(random.choices("0123456789", k=15))
        for form in ("===============%s==", "0.%s", "id-%s", "x%s", "%s123"):
            assert scan([(form % digits).encode()], DATABASE) == [], form


@pytest.mark.parametrize("length", [b"\x000", b"\0\0\0Z", b"\x12q", b"\x01_"])
def test_a_length_before_a_text_is_no_part_of_its_first_word(length: bytes) -> None:
    """As PostgreSQL and protobuf write them: the length's last byte may be a letter."""
    text = b"d" + length + EXAMPLES["github-token"] + b"\n"
    assert [one.pattern.id for one in scan([text], DATABASE)] == ["github-token"]
    assert scan([b"d0" + EXAMPLES["github-token"] + b"\n"], DATABASE) == []
