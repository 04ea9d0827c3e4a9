"""What `quotegate guest` issues: what gateway and agent accept, and nothing that was there before is touched."""

import datetime as dt
import json
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.ek_certificate import verify_ek_chain
from authn.errors import AuthnError
from authn.portmap import KIND as PORT_MAP
from authn.portmap import PortEntry, PortMap
from authn.reference import ReferenceEvent, ReferenceSet
from authn.signing import verify_document
from authn.tpm import Tpm, TpmIdentity
from filters.policy.check import check_policy
from filters.policy.parser import parse_policy
from gateway.agent.main import main
from gateway.agent.setup import AgentSetup
from gateway.cli.parser import build_parser
from gateway.errors import GatewayError
from gateway.setup import GatewaySetup
from tests.tpms import running_swtpm
from vmhost.errors import HostError
from vmhost.image.references import PCRS, files_name, profile_for, value_name
from vmhost.issue.authority import Authority
from vmhost.issue.new_tpm import KEY, STATE
from vmhost.process import Rights
from vmhost.vm.identity import identify
from vmhost.vm.vtpm import VtpmSpec

pytestmark = [
    pytest.mark.tpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="files of several owners can't be made"),
]
TPM_UID = 64391
WORDS = ("--ip", "10.0.0.2", "--port", "tap3", "--image", "mine")


def image_set(image: str, version: int = 1) -> ReferenceSet:
    """Reference values of an image, which is not one of ours."""
    values = {value_name(image, pcr): (ReferenceEvent("event", bytes(32)),) for pcr in PCRS}
    return ReferenceSet(version, time.time() + 3600, values | {files_name(image): ()})


class Platform:
    """A gateway that no lab brought up, and an authority for its machines."""

    def __init__(self, at: Path, tpm: str, keys: TpmIdentity) -> None:
        self.at, self.keys = at, keys
        self.gateway, self.authority, self.out = at / "gateway", at / "authority", at / "web"
        self.gateway.mkdir(parents=True)
        own, administrator = (
            Authority.create("gateway's", dt.datetime.now(dt.UTC), 30),
            Ed25519PrivateKey.generate(),
        )
        there = PortEntry("db", "tap9", "52:54:00:00:00:09", IPv4Address("10.0.0.9"), "u-9")
        not_after = time.time() + 3600
        (self.gateway / "portmap.json").write_bytes(PortMap(4, (there,)).sign(not_after, own.signer))
        (self.gateway / "ek_ca.pem").write_bytes(own.ca.root_pem())
        (self.gateway / "references.json").write_bytes(image_set("gateway").sign(own.signer))
        self.administrator = administrator.public_key().public_bytes_raw().hex()
        sockets = {name: f"/run/{name}.sock" for name in ("netd", "tpmd", "api", "monitor", "inspectors")}
        self.setup: dict[str, Any] = {
            "gateway_id": "site/gateway", "platform": "site", "ip": "10.0.0.1", "mac": "52:54:00:00:00:01",
            "interface": "eth0", "control_port": 7443, "beacon_interval_ms": 200, "return_within_s": 30,
            "portmap": str(self.gateway / "portmap.json"), "portmap_keys": own.public_keys,
            "references": [str(self.gateway / "references.json")],
            "reference_keys": {**own.public_keys, "0badc0de": self.administrator},
            "administrator_keys": {"0badc0de": self.administrator}, "ek_roots": [str(self.gateway / "ek_ca.pem")],
            "preapproved_eks": [], "tpm": tpm, "event_log": "/run/log", "policy": "/etc/policy.toml",
            "gateway_profile": profile_for("gateway", verified_root=True).to_json(), "sockets": sockets,
            "state_dir": "/var/lib/quotegate", "allowed_uids": [0], "inspector_uid": 64104,
        }  # fmt: skip
        self.write_setup(self.setup)
        assert run("authority", self.authority) == 0
        self.references = at / "references.json"
        self.references.write_bytes(image_set("mine").sign(Authority.load(self.authority).signer))
        self.ek = at / "ek.hex"
        self.ek.write_text(keys.ek_public.hex() + "\n")

    def write_setup(self, setup: dict[str, Any]) -> None:
        (self.gateway / "setup.json").write_text(json.dumps(setup))

    def issue(self, *more: object, name: str = "web", words: tuple[str, ...] = WORDS) -> int:
        """Issue for web; words that come later count."""
        setup, out = self.gateway / "setup.json", self.out
        tpm = () if "--new-tpm" in more else ("--ek", self.ek)
        return run(
            "issue", name, *words, "--authority", self.authority, "--setup", setup, *tpm, "--out", out, *more
        )

    def issue_all(self, *more: object) -> int:
        return self.issue("--references", self.references, *more)

    def install(self) -> None:
        """Do what the steps say for the gateway."""
        for one in (self.out / "gateway").iterdir():
            (self.gateway / one.name).write_bytes(one.read_bytes())

    def portmap(self) -> PortMap:
        setup = GatewaySetup.load(self.gateway / "setup.json")
        document = verify_document(setup.portmap.read_bytes(), PORT_MAP, setup.portmap_keys, time.time())
        return PortMap.from_document(document)


def run(*words: object) -> int:
    arguments = build_parser().parse_args(["guest", *map(str, words)])
    return int(arguments.run(arguments))


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, TpmIdentity]]:
    with running_swtpm(tmp_path_factory.mktemp("tpm")) as tcti:
        with Tpm(tcti) as one:
            keys = one.provision()
        yield tcti, keys


@pytest.fixture
def platform(tmp_path: Path, tpm: tuple[str, TpmIdentity]) -> Platform:
    return Platform(tmp_path / "site", *tpm)


def test_the_authoritys_keys_are_roots_alone_and_never_overwritten(platform: Platform) -> None:
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in platform.authority.iterdir()}
    assert modes["ek_ca.key"] == modes["signing.key"] == 0o600
    before = {one.name: one.read_bytes() for one in platform.authority.iterdir()}
    with pytest.raises(HostError, match="never overwritten: name another") as raised:
        run("authority", platform.authority)
    assert raised.value.code == "exists"
    assert {one.name: one.read_bytes() for one in platform.authority.iterdir()} == before


def test_the_guest_accepts_its_setup(platform: Platform) -> None:
    assert platform.issue_all() == 0
    guest = platform.out / "guest"
    text = (guest / "setup.json").read_text()
    assert "/etc/quotegate-agent/ek_certificate.der" in text
    (guest / "moved.json").write_text(text.replace("/etc/quotegate-agent", str(guest)))
    setup = AgentSetup.load(guest / "moved.json")
    assert (setup.peer_id, setup.gateway_id, setup.tpm) == ("site/web", "site/gateway", "device:/dev/tpmrm0")
    assert setup.profile == profile_for("mine")
    assert setup.gateway_key.public == platform.keys.ak_public
    names = set(setup.gateway_profile.references.values())
    assert [names <= set(one.values) for one in setup.references.sets] == [True]


def test_the_guest_trusts_no_key_of_its_own_authority_about_its_gateway(platform: Platform) -> None:
    platform.issue_all()
    platform.install()
    platform.out = platform.at / "ops"
    platform.issue(name="ops", words=("--ip", "10.0.0.3", "--port", "tap4", "--image", "mine"))
    keys = json.loads((platform.out / "guest/setup.json").read_text())["reference_keys"]
    assert keys == platform.setup["reference_keys"]


def test_the_certificate_names_the_machine_and_is_for_its_tpm(platform: Platform) -> None:
    name = "6f1c2f0e-6f5e-4bd0-9d0e-0d7a0f2c9a11"
    platform.issue_all("--uuid", name)
    root = x509.load_pem_x509_certificate(next((platform.out / "gateway").glob("ek_ca-*.pem")).read_bytes())
    der = (platform.out / "guest/ek_certificate.der").read_bytes()
    found = verify_ek_chain(der, platform.keys.ek_public, [root], dt.datetime.now(dt.UTC))
    assert (found.name, found.uuid) == ("web", name)
    assert f"quotegate peer enroll web --ek {found.fingerprint}" in (platform.out / "README").read_text()


def test_the_gateway_accepts_its_new_setup_and_knows_all_machines(platform: Platform) -> None:
    platform.issue_all()
    platform.install()
    setup, portmap = GatewaySetup.load(platform.gateway / "setup.json"), platform.portmap()
    assert (portmap.version, [one.peer for one in portmap.entries]) == (5, ["db", "web"])
    assert portmap.entries[1].mac == "52:54:0a:00:00:02"
    assert len(setup.ek_roots) == len(setup.references) == 2
    for path in setup.references:
        verify_document(path.read_bytes(), "reference-set", setup.reference_keys, time.time())
    changed = {"portmap", "portmap_keys", "ek_roots", "references", "reference_keys"}
    issued = json.loads((platform.gateway / "setup.json").read_text())
    assert {name for name, value in issued.items() if value != platform.setup[name]} == changed


def test_a_second_machine_with_the_same_image_adds_its_place_alone(platform: Platform) -> None:
    platform.issue_all()
    platform.install()
    platform.out = platform.at / "ops"
    assert platform.issue(name="ops", words=("--ip", "10.0.0.3", "--port", "tap4", "--image", "mine")) == 0
    assert {one.name for one in (platform.out / "gateway").iterdir()} == {
        "portmap-6.json", "policy-ops.toml", "setup.json",
    }  # fmt: skip
    platform.install()
    assert [one.peer for one in platform.portmap().entries] == ["db", "web", "ops"]


def test_the_policy_takes_the_words(platform: Platform) -> None:
    platform.issue_all()
    text = "schema = 1\n" + (platform.out / "gateway/policy-web.toml").read_text()
    policy = parse_policy(text)
    assert check_policy(policy) == []
    assert policy.profiles["mine"].pcrs == dict(profile_for("mine").references)
    assert policy.profiles["mine"].on_fail.action == "none"


def test_the_host_gets_every_place(platform: Platform) -> None:
    platform.issue_all("--bridge", "br7", "--gateway-port", "gw")
    rules, port = ((platform.out / "host" / name).read_text() for name in ("antispoof.nft", "port.sh"))
    assert '"tap3" . 52:54:0a:00:00:02 . 10.0.0.2' in rules
    assert '"tap9" . 52:54:00:00:00:09 . 10.0.0.9' in rules
    assert 'iifname "gw" goto from_gateway' in rules
    assert "ether saddr != 52:54:00:00:00:01 goto drop_spoofed" in rules
    assert "ip link set dev tap3 master br7\n" in port
    assert "isolated on" in port


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory that other uids may pass through; pytest's own are not."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="qg-issue-") as room:
        Path(room).chmod(0o711)
        yield Path(room)


def test_a_new_tpm_has_the_key_that_the_certificate_is_for(platform: Platform, passable: Path) -> None:
    platform.out = passable / "web"
    assert platform.issue_all("--new-tpm", TPM_UID) == 0
    there = platform.out / "tpm"
    assert stat.S_IMODE((there / KEY).stat().st_mode) == 0o600
    assert ((there / STATE).stat().st_uid, stat.S_IMODE((there / STATE).stat().st_mode)) == (TPM_UID, 0o700)
    rights = Rights(TPM_UID, TPM_UID)
    spec = VtpmSpec("web", "", there / STATE, there / "ctrl", there / "log", rights, client_uid=0)
    found = identify(spec, (there / KEY).read_bytes())
    root = x509.load_pem_x509_certificate(next((platform.out / "gateway").glob("ek_ca-*.pem")).read_bytes())
    der = (platform.out / "guest/ek_certificate.der").read_bytes()
    assert verify_ek_chain(der, found.ek_public, [root], dt.datetime.now(dt.UTC)).name == "web"


def test_a_new_tpm_whose_uid_can_not_get_there_says_so(platform: Platform, passable: Path) -> None:
    passable.chmod(0o700)
    platform.out = passable / "web"
    with pytest.raises(HostError, match=f"uid {TPM_UID} must be able to pass") as raised:
        platform.issue_all("--new-tpm", TPM_UID)
    assert raised.value.code == "tpm-failed"
    assert list(passable.iterdir()) == []


def test_the_machine_itself_says_its_key(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    tcti = str(platform.setup["tpm"])
    agent = ["quotegate-agent", "identity", "--tpm", tcti]
    with mock.patch.object(sys, "argv", agent):
        main()
    platform.ek.write_text(capsys.readouterr().out)
    assert platform.issue_all() == 0
    with mock.patch.object(sys, "argv", [*agent[:3], f"{tcti}.none"]), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "quotegate-agent: no-tpm: no TPM answers at swtpm:path=" in capsys.readouterr().err


def test_nothing_secret_is_issued_but_the_new_tpms_key(platform: Platform) -> None:
    platform.issue_all()
    vouching = Authority.load(platform.authority)
    secret = vouching.signer.private_bytes_raw().hex().encode()
    for one in platform.out.rglob("*"):
        if one.is_file():
            assert b"PRIVATE KEY" not in one.read_bytes(), one
            assert secret not in one.read_bytes(), one


def test_a_machine_that_has_moved_is_issued_anew(platform: Platform) -> None:
    platform.issue_all()
    platform.install()
    platform.out = platform.at / "again"
    with pytest.raises(
        HostError, match="got web, which web has; choose another, or issue it anew with --again"
    ):
        platform.issue()
    assert platform.issue("--again", "--port", "tap5") == 0
    platform.install()
    assert [(one.peer, one.port) for one in platform.portmap().entries] == [("db", "tap9"), ("web", "tap5")]


def test_rejects_an_unknown_machine_that_is_to_be_issued_anew(platform: Platform) -> None:
    with pytest.raises(HostError, match="expected one of db; without --again") as raised:
        platform.issue_all("--again")
    assert raised.value.code == "unknown-peer"


REFUSED = {
    "a name that is taken": (("--out", "gateway"), "exists", "nothing is overwritten"),
    "an address of another": (("--ip", "10.0.0.9"), "taken", "got 10.0.0.9, which db has"),
    "the gateway's address": (("--ip", "10.0.0.1"), "taken", "got the gateway's own, 10.0.0.1"),
    "an image without values": (("--image", "other"), "no-reference-values", "got mine-files, .*quotegate image sign other"),
    "no endorsement key": (("--ek", "references.json"), "bad-ek", "quotegate-agent identity"),
    "no file": (("--ek", "none"), "unreadable", "expected a file, got: No such file"),
    "no authority": (("--authority", "gateway"), "bad-authority", "quotegate guest authority"),
    "no address": (("--ip", "10.0.0"), "bad-place", "expected such as 10.0.0.2"),
    "no signed set": (("--references", "ek.hex"), "malformed", "not a signed document"),
    "a malformed MAC": (("--mac", "52:54"), "malformed", "expected a lower-case unicast address"),
    "a port for a shell": (("--port", "tap3; reboot"), "bad-place", "checked --port: expected an interface's name"),
    "a port for a policy": (("--port", 'x", ip = "'), "bad-place", "checked --port: expected an interface's name"),
    "a bridge that is none": (("--bridge", "br 0"), "bad-place", "checked --bridge"),
    "a gateway's port that is too long": (("--gateway-port", "g" * 16), "bad-place", "checked --gateway-port"),
    "no day": (("--days", 0), "bad-days", "expected more than 0"),
    "days beyond dates": (("--days", 99_999_999), "bad-days", "at most 3650"),
}  # fmt: skip
FILES = ("--out", "--ek", "--authority", "--references")


@pytest.mark.parametrize("how", REFUSED)
def test_rejects_and_leaves_nothing(how: str, platform: Platform) -> None:
    words, code, says = REFUSED[how]
    given = [platform.at / words[1] if words[0] in FILES else words[1]]
    before = {one: one.read_bytes() for one in platform.at.rglob("*") if one.is_file()}
    with pytest.raises((GatewayError, HostError, AuthnError), match=says) as raised:
        platform.issue_all(words[0], *given)
    assert raised.value.code == code
    assert {one: one.read_bytes() for one in platform.at.rglob("*") if one.is_file()} == before
    assert [one for one in platform.at.iterdir() if one.name.startswith(".")] == []


def test_rejects_a_gateway_whose_tpm_does_not_answer(platform: Platform) -> None:
    platform.write_setup({**platform.setup, "tpm": f"swtpm:path={platform.at}/none"})
    with pytest.raises(GatewayError, match="on the gateway's machine, while it runs") as raised:
        platform.issue_all()
    assert raised.value.code == "tpm-away"


def test_rejects_a_port_map_that_was_altered(platform: Platform) -> None:
    portmap = platform.gateway / "portmap.json"
    portmap.write_bytes(portmap.read_bytes().replace(b"tap9", b"tap8"))
    with pytest.raises(AuthnError) as raised:
        platform.issue_all()
    assert raised.value.code == "bad-signature"
