"""Secrets as they are written down: formats of vendors, forms of configuration, and what manuals show instead of one."""

import re

import pytest

from filters.inspection.matching.database import Database
from filters.inspection.patterns.load import secrets
from filters.inspection.patterns.pattern import REACH
from filters.inspection.patterns.personal import PERSONAL
from tests.filters.inspection.test_scanner import scan

DATABASE = Database((*secrets(), *PERSONAL))
HEX, MIXED = "0a1b2c3d4e5f6789" * 8, "aB3dE6gH9jK2mN5pQ8sTvW1xY4zC7fJ0" * 8
VALUE = "aX9kLm2pQ7zR4tYw"
# put together here, so that no scanner of sources takes this file for a leak
TOKENS = {
    "aws-bedrock-session": "bedrock-api-" + "key-YmVkcm9jay5hbWF6b25hd3MuY29t",
    "azure-client-secret": ".IQ8" + "Q~" + MIXED[:34],
    "azure-identified-key": MIXED[:52] + "JQQ" + "J99" + MIXED[:26],
    "github-token": "ghs_" + MIXED[:90],
    "gitlab-routable": "glpat-" + MIXED[:40] + ".01.0a1b2c3d4",
    "gitlab-mail": "glimt-" + MIXED[:25],
    "slack-bot": "xoxb-" + "263594206564-FGqddMF8t08v8N7Oq4i57vs1",
    "slack-config": "xoxe.xoxp-1-" + MIXED[:166],
    "slack-legacy": "xoxa-" + "2-511111111-31111111111-e039d02840a0b9379c",
    "discord-bot": 'client.run("' + "MTk4NjIyNDgzNDcxOTI1MjQ4" + '.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs")',
    "anthropic-key": "sk-ant-" + "oat01-" + MIXED[:95],
    "openai-compatible-key": "sk-" + MIXED[:48],
    "openrouter-key": "sk-or-" + "v1-" + HEX[:64],
    "nvidia-key": "nvapi-" + MIXED[:64],
    "pinecone-key": "pcsk_" + MIXED[:6] + "_" + MIXED[:63],
    "newrelic-license": HEX[:32] + "FFFF" + "NRAL",
    "cloudflare-token": "cfut_" + MIXED[:40] + HEX[:8],
    "circleci-token": "CCIPAT_" + MIXED[:22] + "_" + HEX[:40],
    "npmrc-token": "//registry.example/:_authToken=743b294a-cd03-11ec-9d64-0242ac120002",
    "adafruit-key": "aio_" + MIXED[:28],
    "maxmind-key": MIXED[:6] + "_" + MIXED[:29] + "_mmk",
    "dropbox-token": "sl.u." + MIXED[:130],
    "brevo-mail-key": "xsmtpsib-" + HEX[:64] + "-" + MIXED[:16],
    "salesforce-session": "00D" + MIXED[:12] + "!" + MIXED[:96],
    "kubernetes-secret": "kind: Sec" + "ret\nmetadata:\n  name: db-secret\ndata:\n  token: token\n",
    "netrc-password": "machine h login bob pass" + "word secret",
    "connection-string": "Server=db;Database=x;User Id=sa;" + "Password=Kx93mLqPz7wQ;",
    "curl-header": "curl -s -H 'Authorization: Bearer " + MIXED[:40] + "' https://h/",
    "putty-key": "PuTTY-User-Key-" + "File-2: ssh-rsa\r\nEncryption: none\r\n",
    "private-key": "-----BEGIN " + "PRIVATE KEY-----\\n" + MIXED[:64],
}  # fmt: skip
FORMS = (
    'password: string = "{}"', 'val password: String = "{}"', 'var password string = "{}"', "password := `{}`", 'config["password"] = "{}"',
    "os.environ['DB_PASSWORD'] = '{}'", 'if (password === "{}") {{', 'PASSWORD ?= "{}"', 'password += "{}"', "{{password:'{}',user:'bob'}}",
    "{{'password':'{}','user':'bob'}}", "{{'password':'','password2':'{}'}}", r'config = "{{\"password\":\"{}\"}}"', "<password>{}</password>",
    "<dbPassword>\n  {}\n</dbPassword>", '"PASSWORD" => "{}"', "api_key=0a1b2c3d4e5f60718293a4b5c6d7e8f9 {}",
)  # fmt: skip
PLACEHOLDERS = (
    "https://user:pass@host/", "http://username:password@www.example.com/", "https://$USER:$TOKEN@github.com/x", "https://u:${{DB_PASSWORD}}@h",
    "https://u:{password}@h", "ftp://me:***@h", "https://me:xxxx@h", 'curl -u "${_username}:${_password}" h', "curl -u username:token h",
    "curl --user neo4j:[PASSWORD] http://h", "curl --user user:pass --digest h", "ghp_" + "x" * 36, "AKIA" + "X" * 16, "AKIA" + "IOSFODNN7EXAMPLE",
    "Server=db;User Id=sa;Password={0};", "Server=db;User Id=sa;Password=$(PASSWORD);", "A" * 110 + "B", '"-----BEGIN PRIVATE' + ' KEY-----\\nXXXX\\nXXXX\\n-----END"',
    "const begin = '-----BEGIN PRIVATE" + " KEY-----';", 'x="PuTTY-User-Key-File-2: "+k', "xoxo-indieweb-1.jpg",
    "<password>hunter2</password><id>AbC123xyZ9</id>", "{'password':'short','id':'aX9kLm2pQ7zR'}",
)  # fmt: skip


def names(text: str, cut: int) -> set[str]:
    data = text.encode()
    return {one.pattern.id for one in scan([data[:cut], data[cut:]], DATABASE)}


@pytest.mark.parametrize("name", list(TOKENS))
@pytest.mark.parametrize(("before", "after"), [("x ", " y\n"), ("=", "\n"), ("'", "';\n"), ("\n", "\r\n")])
def test_finds_the_format_at_every_split(name: str, before: str, after: str) -> None:
    text = f"{before}{TOKENS[name]}{after}"
    for cut in range(len(text)):
        assert name in names(text, cut), cut


@pytest.mark.parametrize("form", FORMS)
def test_finds_what_is_assigned_in_any_language(form: str) -> None:
    text = f"a\n{form.format(VALUE)}\nb\n"
    if "api_key" in form:
        text = text.replace(f" {VALUE}", "")
    for cut in range(len(text)):
        assert names(text, cut), cut


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_what_manuals_show_is_no_finding_at_any_split(text: str) -> None:
    for cut in range(len(text) + 4):
        assert names(f"\n{text} \n", cut) == set(), cut


@pytest.mark.parametrize(
    "head", ["AIza" + MIXED[:34], "glpat-" + MIXED[:19], "sq0atp-" + MIXED[:21], "GOCSPX-" + MIXED[:27]]
)
@pytest.mark.parametrize("behind", ['"', " ", "\n", "'", ";", "&"])  # fmt: skip
def test_finds_a_token_whose_last_sign_is_a_hyphen(head: str, behind: str) -> None:
    """One in sixty-four ends so, and there a word's end is none."""
    text = f"token={head}-{behind}x"
    for cut in range(len(text)):
        assert names(text, cut), cut


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pay 4000 4111 1111 1111 1111 now", "payment-card"), ("REF AB12 DE89 3704 0044 0532 0130 00.", "iban"),
        ("{'password':'short','password':'aX9kLm2pQ7zR'}", "assigned-password"),
    ],
)  # fmt: skip
def test_finds_what_begins_inside_what_is_none(text: str, name: str) -> None:
    for cut in range(len(text)):
        assert name in names(text, cut), cut


KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEF"


@pytest.mark.parametrize(
    "before", ["", "# ", "// ", " * ", "-", "+", "<br>", "</span><span>", "..", " " * 60, "\\n"]
)
def test_finds_a_private_key_however_its_lines_are_begun(before: str) -> None:
    text = f"{before}-----BEGIN PRIVATE" + f" KEY-----\n{before}{KEY}\n"
    assert "secrets.private-key" in {one.pattern.name for one in scan([text.encode()], DATABASE)}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("curl --url=$BASE -u admin:S3cretPw h\n", "curl-user"), ('curl -H "X: $TOKEN" -u admin:RealPw1 h\n', "curl-user"),
        ("Server=db;Database=token;Password=Real1234;", "connection-string"), ("Uid=${USER};Password=Real1234;", "connection-string"),
        ("https://xxxxxxxx:realpw@host/", "url-password"), ("https://u:realpw@xxxxxxxx.host/", "url-password"),
    ],
)  # fmt: skip
def test_rejects_to_take_a_password_for_the_placeholder_beside_it(text: str, name: str) -> None:
    for cut in range(len(text)):
        assert name in names(text, cut), cut


@pytest.mark.parametrize("name", ["connection-string", "curl-user", "curl-header", "url-password"])
def test_what_goes_on_for_long_is_no_longer_than_what_is_kept_to_look_again(name: str) -> None:
    (one,) = (one for one in secrets() if one.id == name)
    assert re._parser.parse(one.expression.decode()).getwidth()[1] <= REACH  # type: ignore[attr-defined]
