"""What a lab is given: setup files that gateway and agents accept, documents that verify, keys kept in."""

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from authn.ek_certificate import NO_END
from authn.portmap import KIND as PORT_MAP
from authn.portmap import PortMap
from authn.reference import KIND as REFERENCES
from authn.reference import ReferenceSet
from authn.signing import DocumentError, key_id, verify_document
from authn.tpm import Tpm, TpmIdentity
from gateway.agent.setup import AgentSetup
from gateway.setup import GatewaySetup
from tests.tpms import running_swtpm
from vmhost.issue.peer_setup import CERTIFICATE
from vmhost.lab.defaults import default_spec
from vmhost.lab.provisioning import (
    GATEWAY_PROFILE,
    PEER_PROFILE,
    LabPaths,
    load_administrator_key,
    make_administrator_key,
    make_directories,
    provision,
)
from vmhost.lab.setup import PROJECT
from vmhost.lab.teardown import tear_down
from vmhost.monitor.programs import AGENT_ARGV, GATEWAY_ARGV
from vmhost.names import AGENT_UID, GATEWAY, GATEWAY_UID, NETD_UID, TPMD_UID, Lab
from vmhost.spec import LabSpec

pytestmark = [
    pytest.mark.tpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab's directories belong to several uids"),
]


DAYS = 400


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSpec]:
    spec = replace(default_spec(Lab(f"tp{os.getpid()}"), 2), valid_days=DAYS)
    try:
        make_directories(spec)
        make_administrator_key(spec.lab)
        found: dict[str, TpmIdentity] = {}
        for name in (GATEWAY, "web", "db"):
            with running_swtpm(tmp_path_factory.mktemp(name)) as tcti, Tpm(tcti) as tpm:
                found[name] = tpm.provision()
        provision(spec, PROJECT, found, {GATEWAY_PROFILE: GATEWAY_ARGV, PEER_PROFILE: AGENT_ARGV})
        yield spec
    finally:
        tear_down(spec.lab)


def test_the_gateway_accepts_its_setup(spec: LabSpec) -> None:
    setup = GatewaySetup.load(LabPaths(spec.lab).gateway_setup)
    assert setup.gateway_id == f"{spec.lab.name}/gateway"
    assert setup.sockets.monitor == spec.lab.monitor_socket
    assert len(setup.preapproved_eks) == 2


def test_an_agent_accepts_its_setup(spec: LabSpec) -> None:
    setup = AgentSetup.load(LabPaths(spec.lab).peer_setup("web"))
    assert setup.peer_id == f"{spec.lab.name}/web"
    assert (setup.monitor_socket, setup.host_line) == (spec.lab.monitor_socket, None)


def test_documents_verify_with_the_keys_that_were_handed_out(spec: LabSpec) -> None:
    setup = GatewaySetup.load(LabPaths(spec.lab).gateway_setup)
    portmap = verify_document(setup.portmap.read_bytes(), PORT_MAP, setup.portmap_keys, time.time())
    assert PortMap.from_document(portmap).entries == spec.peers
    references = setup.references[0].read_bytes()
    document = verify_document(references, REFERENCES, setup.reference_keys, time.time())
    assert "code" in ReferenceSet.from_document(document).values
    with pytest.raises(DocumentError):
        verify_document(references.replace(b"code", b"c0de"), REFERENCES, setup.reference_keys, time.time())


def test_all_that_is_signed_holds_as_long_as_was_wished(spec: LabSpec) -> None:
    paths = LabPaths(spec.lab)
    setup = GatewaySetup.load(paths.gateway_setup)
    signed = (
        (setup.portmap.read_bytes(), PORT_MAP, setup.portmap_keys),
        (setup.references[0].read_bytes(), REFERENCES, setup.reference_keys),
    )
    before, after = (time.time() + days * 86400 for days in (DAYS - 1, DAYS + 1))
    for document, kind, keys in signed:
        verify_document(document, kind, keys, before)
        with pytest.raises(DocumentError):
            verify_document(document, kind, keys, after)
    root = x509.load_pem_x509_certificate((paths.shared / "ek_ca.pem").read_bytes())
    peer = x509.load_der_x509_certificate((paths.peer_dir("web") / CERTIFICATE).read_bytes())
    for certificate in (root, peer):
        assert certificate.not_valid_after_utc == NO_END  # nobody could issue another


def test_the_administrators_key_is_roots_alone(spec: LabSpec) -> None:
    status = spec.lab.administrator_key.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    public = load_administrator_key(spec.lab).public_key().public_bytes_raw()
    setup = GatewaySetup.load(LabPaths(spec.lab).gateway_setup)
    assert setup.administrator_keys == {key_id(public): public}


def test_no_private_key_lies_where_others_may_read(spec: LabSpec) -> None:
    private = load_administrator_key(spec.lab).private_bytes_raw().hex()
    for path in (*spec.lab.run_dir.rglob("*"), *spec.lab.state_dir.rglob("*")):
        if path.is_file() and path != spec.lab.administrator_key:
            text = path.read_bytes()
            assert b"PRIVATE KEY" not in text
            assert private.encode() not in text


def test_each_directory_is_writable_by_its_owner_alone(spec: LabSpec) -> None:
    paths = LabPaths(spec.lab)
    owners = {
        paths.gateway_dir / "netd": NETD_UID,
        paths.gateway_dir / "tpmd": TPMD_UID,
        paths.gateway_dir / "quotegated": GATEWAY_UID,
        paths.gateway_state: GATEWAY_UID,
        paths.peer_dir("web") / "agent": AGENT_UID,
        paths.shared: 0,
        paths.gateway_dir: 0,
        spec.lab.run_dir: 0,
        spec.lab.run_dir / "log": 0,
        spec.lab.run_dir / "code": 0,
    }
    for directory, uid in owners.items():
        status = directory.stat()
        assert status.st_uid == uid, directory
        assert not stat.S_IMODE(status.st_mode) & 0o022, directory
    assert stat.S_IMODE(Path(paths.gateway_state).stat().st_mode) == 0o700


def test_what_guests_in_vms_testify_is_roots_to_write(tmp_path: Path) -> None:
    lab = Lab(f"tv{os.getpid()}")
    try:
        make_directories(replace(default_spec(lab, 1), images=tmp_path))
        status = (lab.state_dir / "peers" / "web").stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o755)
    finally:
        tear_down(lab)
