"""Provision a lab: keys, certificates, the port map, reference values, and everybody's setup file.

No trust on first use: each peer is told the gateway's key, the gateway knows the CA of the TPMs, the
port map and the reference values are signed.
"""

import datetime as dt
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.portmap import PortMap
from authn.reference import ReferenceSet
from authn.state_policy import Approval
from authn.tpm import TpmIdentity
from vmhost.durable import write_secret
from vmhost.image.approve import approve
from vmhost.image.references import Image
from vmhost.issue.authority import Authority
from vmhost.issue.guest import fingerprint
from vmhost.issue.peer_setup import CERTIFICATE, Gateway, peer_setup
from vmhost.lab.gateway_vm import FIRST_VERSION, write_gateway_settings
from vmhost.lab.vms import GUEST, write_vm_settings
from vmhost.measured_boot import predict, profile_for
from vmhost.names import AGENT_UID, GATEWAY, GATEWAY_UID, INSPECTOR_UID, NETD_UID, TPMD_UID, Lab
from vmhost.signing_key import load_signing_key, public_keys
from vmhost.spec import LabSpec

NAMESPACE_RETURN_S, VM_RETURN_S = 30, 120  # a machine that is restarted is trusted again by then
GATEWAY_PROFILE, PEER_PROFILE = "lab-gateway", "lab-peer"


@dataclass(frozen=True, slots=True)
class LabPaths:
    """Where a lab's files are."""

    lab: Lab

    @property
    def gateway_dir(self) -> Path:
        """The gateway's files."""
        return self.lab.run_dir / "gateway"

    @property
    def gateway_setup(self) -> Path:
        """The gateway's setup file."""
        return self.gateway_dir / "setup.json"

    @property
    def gateway_log(self) -> Path:
        """The gateway's event log."""
        return self.gateway_dir / "event_log.bin"

    def socket(self, process: str, name: str) -> Path:
        """A socket of one gateway process, in a directory that process alone may write."""
        return self.gateway_dir / process / name

    def peer_dir(self, peer: str) -> Path:
        """A peer's files."""
        return self.lab.run_dir / "peers" / peer

    def peer_setup(self, peer: str) -> Path:
        """A peer's setup file."""
        return self.peer_dir(peer) / "setup.json"

    def peer_log(self, peer: str) -> Path:
        """A peer's event log."""
        return self.peer_dir(peer) / "event_log.bin"

    @property
    def shared(self) -> Path:
        """Signed documents that everybody may read."""
        return self.lab.run_dir / "shared"

    @property
    def gateway_state(self) -> Path:
        """The gateway's databases."""
        return self.lab.state_dir / "gateway"

    @property
    def inspector_temporary(self) -> Path:
        """Where inspectors keep large objects while they come in: on disk, it may be much."""
        return self.lab.state_dir / "inspector"


def make_directories(spec: LabSpec) -> None:
    """Create the lab's directories, each writable by its one owner."""
    paths = LabPaths(spec.lab)
    owned = {
        paths.gateway_dir / "netd": NETD_UID,
        paths.gateway_dir / "tpmd": TPMD_UID,
        paths.gateway_dir / "quotegated": GATEWAY_UID,
        paths.inspector_temporary: INSPECTOR_UID,
        paths.gateway_state: GATEWAY_UID,
    }
    for peer in spec.peers:
        owned[paths.peer_dir(peer.peer) / "agent"] = AGENT_UID
        # what the peer remembers: its agent writes it, or the monitor when the agent is in a VM
        owned[spec.lab.state_dir / "peers" / peer.peer] = 0 if spec.images else AGENT_UID
    for directory in (
        spec.lab.run_dir,
        spec.lab.state_dir,
        paths.shared,
        spec.lab.run_dir / "log",
        spec.lab.run_dir / "code",
    ):
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    for directory, uid in owned.items():
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        os.chown(directory, uid, uid)
    for directory in (paths.gateway_state, paths.inspector_temporary):
        directory.chmod(0o700)
    spec.lab.material.mkdir(exist_ok=True)
    os.chown(spec.lab.material, 0, INSPECTOR_UID)  # root writes, inspectors read, nobody else does either
    spec.lab.material.chmod(0o750)


def make_administrator_key(lab: Lab) -> None:
    """Make the administrator's key, readable by root alone."""
    write_secret(
        lab.administrator_key, Ed25519PrivateKey.generate().private_bytes_raw().hex().encode() + b"\n"
    )


def load_administrator_key(lab: Lab) -> Ed25519PrivateKey:
    """Load the administrator's key; raises HostError `bad-key`, also for everybody but root."""
    return load_signing_key(lab.administrator_key)


def make_authority_key(lab: Lab) -> ec.EllipticCurvePrivateKey:
    """Make the key that approves images to the gateway's TPM: P-256, which TPMs know. Readable by root alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_secret(lab.authority_key, f"{key.private_numbers().private_value:064x}\n".encode())
    return key


def load_authority_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Load such a key: 64 hex digits; raises OSError, ValueError."""
    return ec.derive_private_key(int(path.read_text().strip(), 16), ec.SECP256R1())


def provision(
    spec: LabSpec, root: Path, identities: dict[str, TpmIdentity], commands: dict[str, tuple[str, ...]]
) -> None:
    """Write every file of the lab; the CA's key and the one that signs port map and first references stay in this process.

    Later ones are the administrator's to sign: they come with updates of the gateway's image, or take the place of those
    that run out (`vmhost.lab.renewal`). What the CA vouches for has no end: nobody can sign more.
    """
    paths, now = LabPaths(spec.lab), dt.datetime.now(dt.UTC)
    authority = Authority.create(f"Quotegate lab {spec.lab.name} TPM CA", now, None)
    not_after = time.time() + spec.valid_days * 86400
    (paths.shared / "ek_ca.pem").write_bytes(authority.ca.root_pem())
    (paths.shared / "portmap.json").write_bytes(PortMap(1, spec.peers).sign(not_after, authority.signer))
    image = Image.load(spec.images, GUEST) if spec.images else None
    values = predict(root, f"lab {spec.lab.name}", dict(commands)) | (image.values() if image else {})
    if spec.images and spec.gateway_vm:
        values |= Image.load(spec.images, GATEWAY).values()
    references = ReferenceSet(1, not_after, values).sign(authority.signer)
    (paths.shared / "references.json").write_bytes(references)
    (paths.shared / "policy.toml").write_text(spec.policy_text)
    gateway = _gateway(spec, identities[GATEWAY], authority.public_keys | _administrator(spec.lab))
    for peer in spec.peers:
        identity = identities[peer.peer]
        certificate = authority.ca.issue(identity.ek_public, peer.peer, peer.uuid, now, None)
        (paths.peer_dir(peer.peer) / CERTIFICATE).write_bytes(certificate)
        setup = _peer_setup(spec, paths, peer.peer, gateway)
        _write_json(paths.peer_setup(peer.peer), setup)
        if image is not None:
            write_vm_settings(spec, peer, setup, references, certificate)
    fingerprints = [
        fingerprint((paths.peer_dir(peer.peer) / CERTIFICATE).read_bytes()) for peer in spec.peers
    ]
    setup = _gateway_setup(spec, paths, authority.public_keys, fingerprints if spec.preapproved else [])
    _write_json(paths.gateway_setup, setup)
    if spec.gateway_vm:
        write_gateway_settings(spec, setup, paths.shared, _approve(spec))


def _administrator(lab: Lab) -> dict[str, str]:
    return public_keys(load_administrator_key(lab))


def _approve(spec: LabSpec) -> Approval:
    """Approve the image that the lab comes up with."""
    image = Image.load(spec.images or Path(), GATEWAY)
    return approve(image.uki.read_bytes(), FIRST_VERSION, make_authority_key(spec.lab))


def _gateway_setup(
    spec: LabSpec, paths: LabPaths, keys: dict[str, str], fingerprints: list[str]
) -> dict[str, Any]:
    administrator = _administrator(spec.lab)
    return {
        "gateway_id": f"{spec.lab.name}/{GATEWAY}",
        "platform": spec.lab.name,
        "ip": str(spec.gateway.ip),
        "mac": spec.gateway.mac,
        "interface": "eth0",
        "control_port": spec.control_port,
        "beacon_interval_ms": spec.beacon_interval_ms,
        "return_within_s": spec.return_within_s or (VM_RETURN_S if spec.images else NAMESPACE_RETURN_S),
        "portmap": str(paths.shared / "portmap.json"),
        "portmap_keys": keys,
        "references": [str(paths.shared / "references.json")],
        "reference_keys": keys | administrator,
        "administrator_keys": administrator,
        "ek_roots": [str(paths.shared / "ek_ca.pem")],
        "preapproved_eks": fingerprints,
        "tpm": f"swtpm:path={spec.lab.tpm_socket(GATEWAY)}",
        "event_log": str(paths.gateway_log),
        "policy": str(paths.shared / "policy.toml"),
        "gateway_profile": profile_for(GATEWAY_PROFILE).to_json(),
        "sockets": {
            "netd": str(paths.socket("netd", "netd.sock")),
            "tpmd": str(paths.socket("tpmd", "tpmd.sock")),
            "api": str(spec.lab.api_socket),
            "monitor": str(spec.lab.monitor_socket),
            "inspectors": str(paths.socket("quotegated", "inspectors.sock")),
        },
        "state_dir": str(paths.gateway_state),
        "allowed_uids": [0],
        "inspector_uid": INSPECTOR_UID,
    }


def _gateway(spec: LabSpec, keys: TpmIdentity, reference_keys: dict[str, str]) -> Gateway:
    gateway_id, profile = f"{spec.lab.name}/{GATEWAY}", profile_for(GATEWAY_PROFILE)
    return Gateway(gateway_id, str(spec.gateway.ip), spec.control_port, keys, profile, reference_keys)


def _peer_setup(spec: LabSpec, paths: LabPaths, peer: str, gateway: Gateway) -> dict[str, Any]:
    places = {
        "references": [str(paths.shared / "references.json")],
        "tpm": f"swtpm:path={spec.lab.tpm_socket(peer)}",
        "event_log": str(paths.peer_log(peer)),
        "ek_certificate": str(paths.peer_dir(peer) / CERTIFICATE),
        "state_dir": str(spec.lab.state_dir / "peers" / peer),
        "control_socket": str(spec.lab.agent_socket(peer)),
        "monitor_socket": str(spec.lab.monitor_socket),
    }
    return peer_setup(f"{spec.lab.name}/{peer}", profile_for(PEER_PROFILE), gateway, places)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")
