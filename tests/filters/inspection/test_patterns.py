"""The shipped patterns: each is found in an example, and look-alikes are not."""

import base64
import random
import string
from pathlib import Path

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
    "private-key": b"-----BEGIN " + b"RSA PRIVATE KEY-----\nMIIBPAIBAAJBANPQbQ92nlbeg1Q5JNHSO1Yey46nZ7GJltLWw1ccSvp7pnvmfUm+M521CpFpfr4EAE3UVBMoU9j/",
    "url-password": b"postgres://app:s3cr3t-pass@db.example:5432/x",
    "jwt": b"eyJhbGciOiJIUzI1NiJ9." + b"eyJzdWIiOiIxMjM0NTY3ODkwIn0." + b"dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "assigned-password": b'password = "aX9$kLm2pQ7z"',
    "assigned-datadog": b'DATADOG_KEY: "' + b"a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6q7r8s9t0" + b'"',
    "payment-card": b"card 4111 1111 1111 1111 ok",
    "payment-card-amex": b"amex 3782 822463 10005 ok",
    "payment-card-diners": b"diners 3056 930902 5904 ok",
    "chinese-resident-id": "身份证 11010519491231002X。".encode(),
    "iban": b"to DE89 3704 0044 0532 0130 00 now",
    "us-ssn": b"SSN: 123-45-6789",
    "aws-access-key": b"AKIA" + b"QYLPMN5HIEXAMPLE",
    "shadow-hash": b"\nroot:$6$abcdefgh$" + MIXED.encode() * 2 + b":19000:",
    "alibaba-access-key": b"LTAI" + b"5tBcDeFgHiJkLmNoPqRs",
}  # fmt: skip
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJ"
# as .env, YAML and properties have them
BARE = (
    b"DB_PASSWORD=Kx93!mLqPz7w\nDB_HOST=db\n", b"db:\n  password: Kx93mLqPz7wQ\n", b"spring.datasource.password=Kx93mLqPz7wQ\r\n",
    b"      - API_KEY=aB3dE6gH9jK2mN5pQ8sT\n", b"export CLIENT_SECRET=aB3dE6gH9jK2mN5pQ8sT  \n",
    b"[default]\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/" + b"bPxRfiCYEXAMPLEKEY\n",
)  # fmt: skip
ORDINARY = (
    b'["private_key_jwt","client_secret_basic","client_secret_post"]', b'["username","password","confirmPassword"]', b'INVALID_PASSWORD:"wrong-password"',
    b'"passwordResetUrl":"/account/reset-password"', b'"password_url":"/a1/reset/Kx93mLqPz7"', b'{"linkedin":"johannesschmidt"}', b"user=bob&password=hunter2a", b"user=bob&password=Kx93mLqPz7wQ",
    b"password = settings.DB2_Password()\n", b"password=${DB_Password1}\n", b"password: str | None = None\n", b"password = get_password\n", b"v2_config.secretType = v1_config.secretType\n", b"secret = hashlib.sha256(x).hexdigest()\n",
    b"GET / HTTP/1.1\r\napikey: aB3dE6gH9jK2mN5pQ8sT\r\n\r\n", b"The password: Please4You is none at a line's end.\n", b"PASSWORD_FILE=/run/secrets/Db1Password\n",
    b"passwordResetUrl: https://Example.com/Reset2/abcDq\n", b"password: https://Example.com/Reset2/abcDq\n", b"secret_path = vault/Prod/App2/DbPassword\n",
    b"API_KEY_NAME=Prod-Key-2024-Rotation\n", b"password_hash_algorithm = Argon2id_v13_m65536\n", b"secretRef: Platform-Team2-ExternalSecret\n",
    b"api_key_header = X-Api-Key-V2-Auth1\n", b"SECRET_KEY_BASE=CHANGE_ME_IN_PRODUCTION_2024x\n", b"password => Hash::make1XyzW\n",
)  # fmt: skip
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


def base64_lines(data: bytes, columns: int, end: bytes) -> bytes:
    coded = base64.b64encode(data)
    return b"".join(coded[at : at + columns] + end for at in range(0, len(coded), columns))


@pytest.mark.parametrize("columns", [64, 76])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_base64_of_programs_is_no_token_of_square(columns: int, end: bytes) -> None:
    programs = [
        Path(one).read_bytes()[: 1 << 20]
        for one in ("/bin/sh", "/bin/ls", "/usr/bin/ssh", "/usr/bin/git")
        if Path(one).exists()
    ]
    width = columns // 4 * 3
    made = b"\x7fELF" + bytes(width - 4) + bytes.fromhex("10000075") * 2 + bytes(width - 8)
    code = base64.b64decode(b"EAAAdQIxwEiDxQFBiYNMEAAASTnsdElNY7tIEAAATIn7QfbHB3WZS42EO1AQAABM")
    for data in (*programs, made, bytes(range(width)) + code.ljust(width, b"\x90") * 3):
        text = base64_lines(data, columns, end)
        for size in (1000, len(text)):
            found = scan([text[at : at + size] for at in range(0, len(text), size)], DATABASE)
            assert [one for one in found if one.pattern.id.startswith("square")] == []


@pytest.mark.parametrize(
    "around", [b"token=%b;", b'{"access_token":"%b"}', b"Authorization: Bearer %b\r\n", b"%b\n", b"ID=sq0idp-x\n%b\n", b"/v2/%b/"]
)  # fmt: skip
def test_finds_random_tokens_of_square(around: bytes) -> None:
    letters = (string.ascii_letters + string.digits + "-_").encode()
    for seed in range(100):
        source = random.Random(seed)
        token = b"EAAAE" + bytes(source.choices(letters, k=59))
        found = scan([around % token], DATABASE)
        assert "square-token.2" in {one.pattern.id for one in found}, token


@pytest.mark.parametrize("text", BARE)
def test_finds_what_configuration_does_not_quote(text: bytes) -> None:
    for size in (1, 7, len(text)):
        found = scan([text[at : at + size] for at in range(0, len(text), size)], DATABASE)
        assert found
        assert all(one.pattern.id.endswith("-bare") for one in found)


@pytest.mark.parametrize("text", ORDINARY)
def test_what_ordinary_programs_and_pages_say_is_no_finding(text: bytes) -> None:
    assert scan([b"x\n" + text + b"\n"], DATABASE) == []


@pytest.mark.parametrize("size", [20, 248, 249, 250, 251, 829, 1496])
def test_finds_a_token_with_claims_of_any_length(size: int) -> None:
    text = f'"token":"{TOKEN}{(MIXED * 50)[:size]}.{(MIXED * 2)[:43]}"'.encode()
    for step in (1, 100, len(text)):
        found = scan([text[at : at + step] for at in range(0, len(text), step)], DATABASE)
        assert {one.pattern.id for one in found} == {"jwt"}


def test_finds_a_password_that_a_call_sets_and_none_in_a_list() -> None:
    call = b"define( 'DB_PASSWORD', 'aX9$kLm2pQ7z' );\n"
    assert {one.pattern.id for one in scan([call], DATABASE)} == {"assigned-password"}
    assert scan([b'["username", "password", "confirmPassword_2b"]'], DATABASE) == []
    assert scan([b'("password", "confirmPassword")'], DATABASE) == []


def test_finds_a_password_in_a_query_and_none_in_a_form() -> None:
    for query in (b"GET /in?password=hunter2a HTTP/1.1", b"https://h/in?user=bob&password=hunter2a"):
        assert [one.pattern.id for one in scan([query + b"\r\n"], DATABASE)] == ["url-password-parameter"]


def test_an_operators_assignment_may_stand_without_quotation_marks() -> None:
    table = '[[assignment]]\nname = "vault_key"\nvalue = "[0-9A-Za-z]{16}"\n'
    quoted = Database(parse_patterns(table, "patterns", "m.toml"))
    bare = Database(parse_patterns(table + "bare = true\n", "patterns", "m.toml"))
    text = [b"VAULT_KEY=aB3dE6gH9jK2mN5p\n"]
    assert scan(text, quoted) == []
    assert [one.pattern.name for one in scan(text, bare)] == ["patterns.assigned-vault-key-bare"]


def test_finds_a_value_whose_own_name_ends_as_that_of_an_address_does() -> None:
    """What is assigned to a sendgrid is no id; what is assigned to its id is."""
    table = '[[assignment]]\nname = "SendGrid"\nvalue = "[0-9A-Za-z]{16}"\nmixed = true\nbare = true\n'
    database = Database(parse_patterns(table, "patterns", "m.toml"))
    assert scan([b"SENDGRID=aB3dE6gH9jK2mN5p\n"], database)
    assert scan([b"ID_SENDGRID_KEY=aB3dE6gH9jK2mN5p\n"], database)
    assert scan([b"SENDGRID_ID=aB3dE6gH9jK2mN5p\n"], database) == []


def test_there_are_two_hundred_real_secret_patterns() -> None:
    assert len(secrets()) >= 200


def test_random_digits_are_seldom_a_card() -> None:
    numbers = ["4" + "".join(random.choices("0123456789", k=15)) for _ in range(2000)]
    assert 100 < sum(luhn(one.encode()) for one in numbers) < 320  # one in ten: the check digit works


def test_checksums() -> None:
    assert iban(b"GB82 WEST 1234 5698 7654 32")
    assert not iban(b"GB82 WEST 1234 5698 7654 3")
    assert chinese_id(b"11010519491231002x")
    assert chinese_id(b"110105 19491231 002X")
    assert not chinese_id(b"110105-19491231-0021")
    assert us_ssn(b"123-45-6789")
    assert not us_ssn(b"666-45-6789")
    assert mixed(b'key = "aX9kLm2pQ7zW4"')
    assert not mixed(b'key = "abcdefghijkl"')
    assert mixed(b'key = "aGVsbG8gd29ybGQgMTIzNA=="')
    assert not mixed(b'key = "confirmPasswordPlease"')
    assert not mixed(b'key = "/a1/b2/confirmPassword"')
    assert not mixed(b'key = "4829501736482950"')


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
        ("[[pattern]]\nid='x'\nexpression='a'\nkeyword='b'", "unknown key 'keyword'; did you mean keywords"),
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


CARD = b"4111111111111111"


@pytest.mark.parametrize(
    "before",
    [*(text.encode(coding) for text in ("卡号：", "卡号") for coding in ("utf-8", "gb18030")), "no\N{NO-BREAK SPACE}".encode(), b"\0\0\0\x10", b"\x12\x10", b"`", b"**", b"#", b"card1=", b"card%3D", b"a%20", b"\x1b", b"\n"],
)  # fmt: skip
def test_finds_a_card_behind_other_writings_and_lengths(before: bytes) -> None:
    for size in (1, 5, 100):
        text = b"x " + before + CARD + "号 ".encode()
        found = scan([text[at : at + size] for at in range(0, len(text), size)], DATABASE)
        assert [one.pattern.id for one in found] == ["payment-card"]


@pytest.mark.parametrize("before", [b"7", b"deadbeef", b"-", b"_", b".", b"/", b"+", b"0x", b"%2", b"%3"])
def test_digits_of_something_longer_are_no_card(before: bytes) -> None:
    for text in (before + CARD + b" ", b" " + before + CARD + b" ", b" " + CARD + b"7 ", b" " + CARD + b"f "):
        assert scan([text], DATABASE) == []


@pytest.mark.parametrize(
    "text",
    [b"ES91 2100 0418 4502 0005 1332 BIC: CAIXESBB", b"AT61 1904 3002 3457 3201 BIC", b"BE68 5390 0754 7034 EUR 100", b"AT61 1904 3002 3457 3201 BANK OF X", b"DE89370400440532013000 BIC"],
)  # fmt: skip
def test_finds_an_iban_before_words_in_capitals(text: bytes) -> None:
    assert [one.pattern.id for one in scan([b"IBAN " + text + b"\n"], DATABASE)] == ["iban"]


@pytest.mark.parametrize(
    "text", [b"AT61 1904 3002 3457 3202 BIC", b"BE68539007547034EUR", b"BE68 5390 0754 703", b"XX68 5390 0754 7034 EUR"]
)  # fmt: skip
def test_what_only_begins_like_an_iban_is_none(text: bytes) -> None:
    assert scan([b"IBAN " + text + b"\n"], DATABASE) == []


@pytest.mark.parametrize(
    "text", ["BY13 NBRB 3600 9000 0000 2Z00 AB00", "TL380080012345678910157", "VA59 0011 2300 0012 3456 78", "LC55HEMM000100010012001200023015", "EG380019000500000000263180002", "VG96 VPVG 0000 0123 4567 8901", "AL47-2121-1009-0000-0002-3569-8741"]
)  # fmt: skip
def test_finds_ibans_of_countries_that_joined_later(text: str) -> None:
    assert [one.pattern.id for one in scan([f"to {text}.\n".encode()], DATABASE)] == ["iban"]


@pytest.mark.parametrize("text", ["110105 19491231 002X", "110105-19491231-002X", "11010519491231002x"])
def test_finds_a_resident_id_in_groups(text: str) -> None:
    assert [one.pattern.id for one in scan([f"身份证{text}。".encode()], DATABASE)] == ["chinese-resident-id"]


@pytest.mark.parametrize("length", [b"\x000", b"\0\0\0Z", b"\x12q", b"\x01_"])
def test_a_length_before_a_text_is_no_part_of_its_first_word(length: bytes) -> None:
    """As PostgreSQL and protobuf write them: the length's last byte may be a letter."""
    text = b"d" + length + EXAMPLES["github-token"] + b"\n"
    assert [one.pattern.id for one in scan([text], DATABASE)] == ["github-token"]
    assert scan([b"d0" + EXAMPLES["github-token"] + b"\n"], DATABASE) == []


def test_a_pattern_that_has_to_look_random_may_depend_on_a_word_s_end() -> None:
    head = '[[pattern]]\nid = "x"\nmixed = true\nkeywords = ["KEY"]\nexpression = '
    ends = {r"(?:;|\z)": b";", r"\b": b" ", "$": b"\n", "(?:[^0-9A-Za-z]|$)": b";"}
    for end, behind in ends.items():
        database = Database(parse_patterns(f"{head}'KEY[0-9A-Za-z]{{21}}{end}'", "patterns", "f.toml"))
        for cut in range(30):
            for text, count in (
                (b"ab KEYaB3dE6gH9jK2mN5pQ8sTv" + behind + b"x", 1), (b"ab KEYaB3dE6gH9jK2mN5pAAAAv" + behind + b"x", 0),
                (b"ab KEYaB3dE6gH9jK2mN5pQ8sTvZ" + behind + b"x", 0), (b"Q" * 48 + b"KEYaB3dE6gH9jK2mN5pQ8sTv" + behind + b"x", 0),
            ):  # fmt: skip
                assert len(scan([text[:cut], text[cut:]], database)) == count, (end, cut, text)
