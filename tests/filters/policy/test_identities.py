import pytest

from filters.errors import PolicyError
from filters.policy.model import OnFail
from filters.policy.parser import parse_policy
from tests.filters.policy.texts import EXAMPLE


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ('10 = "ref:nothing-else-ran"', '16 = "ref:x"', "bad-pcr", "reset by the guest"),
        ('10 = "ref:nothing-else-ran"', '23 = "ref:x"', "bad-pcr", "reset by the guest"),
        ('10 = "ref:nothing-else-ran"', '24 = "ref:x"', "bad-pcr", "0 to 22"),
        ('10 = "ref:nothing-else-ran"', '04 = "ref:x"', "bad-pcr", "0 to 22"),
        ('10 = "ref:nothing-else-ran"', "9" * 5000 + ' = "ref:x"', "bad-pcr", "0 to 22"),
        ('10 = "ref:nothing-else-ran"', '10 = "nothing"', "bad-reference", "ref:uki-web"),
        ('10 = "ref:nothing-else-ran"', '10 = "ref:"', "bad-reference", "ref:uki-web"),
        ('4 = "ref:', '4 = "ima:', "bad-reference", "ref:uki-web"),
        ('max_quote_age = "3s"', "layers = []", "bad-value", "demands no evidence"),
        ('max_quote_age = "3s"', 'layers = ["h ost"]', "bad-value", "letters, digits"),
        ("{ sha256 =", "{ sha1 =", "unknown-key", "did you mean sha256"),
        ('max_quote_age = "3s"', "max_quote_age = 3", "wrong-type", "must be a text"),
        ('peer = "restart"', 'peer = "explode"', "bad-value", "must be one of"),
        ("max_restarts = 3", "max_restarts = -1", "bad-value", "negative"),
        ('mac = "52:54:00:aa:00:03"', 'mac = "52:54:00:AA:00:03"', "bad-value", "lower case"),
        ('mac = "52:54:00:aa:00:03"', 'mac = "ff:ff:ff:ff:ff:ff"', "bad-value", "one card"),
        ('mac = "52:54:00:aa:00:03"', 'mac = "00:00:00:00:00:00"', "bad-value", "one card"),
        ('ip = "10.77.0.3"', 'ip = "224.0.0.1"', "bad-value", "one machine"),
        ('ip = "10.77.0.3"', 'ip = "127.0.0.1"', "bad-value", "one machine"),
        ('ip = "10.77.0.3"', 'ip = "255.255.255.255"', "bad-value", "one machine"),
        ('ip = "10.77.0.3"', 'ip = "fd00::3"', "bad-value", "ip"),
        ('port = "db"', 'port = "d b"', "bad-value", "letters, digits"),
        ('ip = "10.77.0.3"', 'ip = "10.77.0.3", ek = "sha256:9f"', "bad-value", "64 hex digits"),
        (
            'profile = "lab-peer"\ntags',
            'profile = "lab-per"\ntags',
            "unknown-profile",
            "did you mean lab-peer",
        ),
        ('tags = ["dmz"]', 'tags = "dmz"', "wrong-type", "must be a list"),
        ('tags = ["dmz"]', 'tags = ["dmz", 3]', "wrong-type", "list of texts"),
        ('tags = ["dmz"]', 'tags = ["d\\u001bz"]', "bad-value", "letters, digits"),
    ],
)
def test_rejects_with_place_and_advice(old: str, new: str, code: str, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(EXAMPLE.replace(old, new, 1))
    assert caught.value.code == code
    assert says in caught.value.message


def test_rejects_a_profile_that_proves_nothing() -> None:
    with pytest.raises(PolicyError, match="nothing would be proved"):
        parse_policy("schema = 1\n[profile.p]\npcrs = { sha256 = { } }\n")


def test_reads_an_ima_reference_and_layers() -> None:
    text = EXAMPLE.replace('10 = "ref:nothing-else-ran"', '10 = "ima:files-web"', 1)
    profile = parse_policy(text.replace('max_quote_age = "3s"', 'layers = ["tpm", "host"]', 1)).profiles[
        "lab-peer"
    ]
    assert profile.pcrs[10] == "ima:files-web"
    assert profile.layers == ("tpm", "host")


def test_reads_a_profile() -> None:
    profile = parse_policy(EXAMPLE).profiles["lab-peer"]
    assert profile.pcrs[10] == "nothing-else-ran"
    assert profile.max_quote_age_ms == 3000
    assert profile.on_fail == OnFail("restart", 3, 900.0, "quarantine")


def test_on_fail_has_safe_defaults() -> None:
    text = 'schema = 1\n[profile.p]\npcrs = { sha256 = { 4 = "ref:code" } }\n'
    assert parse_policy(text).profiles["p"].on_fail == OnFail("restart", 3, 900.0, "quarantine")


def test_reads_a_peer() -> None:
    ek = "sha256:" + "9f" * 32
    peer = parse_policy(EXAMPLE.replace('ip = "10.77.0.2"', f'ip = "10.77.0.2", ek = "{ek}"')).peers["web"]
    assert (peer.ek, str(peer.ip), peer.port, peer.tags) == (ek, "10.77.0.2", "web", frozenset({"dmz"}))
