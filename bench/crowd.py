"""Memory and load of the gateway with 500 attesting peers on simulated TPMs with real keys, T = 1 s.

The crowd is one namespace with 500 addresses on one link; netdev rules give each address its own MAC.
"""

import datetime as dt
import json
import os
import re
import subprocess
import sys
import time
from ipaddress import IPv4Network
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.ek_certificate import CertificateAuthority
from authn.enrollment import EnrolledIdentity
from authn.portmap import PortMap
from authn.reference import ReferenceEvent, ReferenceSet
from authn.signing import key_id
from bench.soft_tpm import SoftTpm
from bench.stats import Figure
from gateway.store.store import Store
from vmhost.commands import in_namespace, run
from vmhost.lab.defaults import make_spec, place
from vmhost.lab.provisioning import LabPaths, _gateway_setup, make_administrator_key, make_directories
from vmhost.lab.teardown import tear_down
from vmhost.machine import Machine
from vmhost.monitor.monitor import Monitor
from vmhost.names import GATEWAY_UID, Lab
from vmhost.spec import LabSpec

COUNT = int(os.environ.get("QG_CROWD", "500"))
NETWORK = IPv4Network("10.71.0.0/22")
SETTLE_S = float(os.environ.get("QG_SETTLE", "45"))


def measure(_rounds: int) -> list[Figure]:
    """Bring the crowd up, wait until it stands, then look five times; about a minute."""
    lab = Lab(f"bcrowd{os.getpid() % 10000}")
    peers = [place(f"s{number}", NETWORK[number + 10], f"t{number}") for number in range(COUNT)]
    text = 'schema = 1\n[profile.swarm]\npcrs = { sha256 = { 4 = "ref:swarm" } }\n' + "".join(
        f'[peer.{one.peer}]\nmatch = {{ port = "{one.port}", mac = "{one.mac}", ip = "{one.ip}" }}\nprofile = "swarm"\n'
        for one in peers
    )
    spec = make_spec(lab, peers, text, NETWORK)
    object.__setattr__(spec, "beacon_interval_ms", 1000)
    tear_down(lab)
    gateway, swarm = None, None
    try:
        connect(spec)
        gateway = start_gateway(spec)
        swarm = _start_swarm(spec, gateway)
        standing = _wait(swarm)
        pids = [one.process.pid for one in gateway.running]
        memory = [sum(_pss(pid) for pid in pids) / 1024 for _ in range(5)]
        busy = _cpu_share(pids, 5.0)
    finally:
        if swarm is not None:
            swarm.kill()
            swarm.wait(5)
        if gateway is not None:
            gateway.power_off()
        tear_down(lab)
    note = f"{standing} of {COUNT} peers standing, T = 1 s, gateway processes use {busy:.2f} cores"
    return [
        Figure(
            f"memory of the gateway with {standing} peers (PSS)",
            "MiB",
            memory,
            "peers asked for",
            [COUNT] * 5,
            512,
            False,
            False,
            note,
        )
    ]


def connect(spec: LabSpec) -> None:
    """Join the gateway's namespace and the crowd's by one link; each address gets its own MAC."""
    lab, crowd = spec.lab, spec.lab.peer_namespace("crowd")
    names = (lab.host_namespace, lab.gateway_namespace, crowd)
    run(["ip", "-batch", "-"], text="".join(f"netns add {name}\n" for name in names))
    run(
        [
            "ip",
            "-n",
            lab.gateway_namespace,
            "link",
            "add",
            "name",
            "eth0",
            "address",
            spec.gateway.mac,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            crowd,
        ]
    )
    run(
        ["ip", "-n", lab.gateway_namespace, "-batch", "-"],
        text=f"link set lo up\naddr add {spec.gateway.ip}/22 dev eth0\nlink set eth0 up\n",
    )
    addresses = "".join(f"addr add {one.ip}/32 dev eth0\n" for one in spec.peers)
    route = f"neigh replace {spec.gateway.ip} lladdr {spec.gateway.mac} dev eth0 nud permanent\nroute add {NETWORK} dev eth0\n"
    run(["ip", "-n", crowd, "-batch", "-"], text=f"link set lo up\nlink set eth0 up\n{addresses}{route}")
    own = json.loads(run(["ip", "-n", crowd, "-j", "link", "show", "eth0"]))[0]["address"]
    elements = ", ".join(f"{one.ip} : {one.mac}" for one in spec.peers)
    rules = f"""table netdev crowd {{
	map macs {{
		type ipv4_addr : ether_addr
		elements = {{ {elements} }}
	}}
	chain outward {{
		type filter hook egress device "eth0" priority 0;
		ether saddr set ip saddr map @macs
	}}
	chain inward {{
		type filter hook ingress device "eth0" priority 0;
		meta pkttype set host ether daddr set {own}
	}}
}}
"""
    run(in_namespace(crowd, ["nft", "-f", "-"]), text=rules)


def start_gateway(spec: LabSpec) -> Machine:
    """Provision by hand (the TPMs of the crowd are simulated) and boot the gateway."""
    paths = LabPaths(spec.lab)
    make_directories(LabSpec(spec.lab, spec.network, (), spec.gateway, ""))
    make_administrator_key(spec.lab)
    signer, not_after = Ed25519PrivateKey.generate(), time.time() + 86400
    public = signer.public_key().public_bytes_raw()
    authority = CertificateAuthority.create("crowd", dt.datetime.now(dt.UTC), 1)
    (paths.shared / "ek_ca.pem").write_bytes(authority.root_pem())
    (paths.shared / "portmap.json").write_bytes(PortMap(1, spec.peers).sign(not_after, signer))
    references = ReferenceSet(1, not_after, {"swarm": (ReferenceEvent("swarm", bytes([4]) * 32),)})
    (paths.shared / "references.json").write_bytes(references.sign(signer))
    (paths.shared / "policy.toml").write_text(spec.policy_text)
    keys = {key_id(public): public.hex()}
    paths.gateway_setup.write_text(json.dumps(_gateway_setup(spec, paths, keys, [])))
    store = Store(paths.gateway_state / "state.db")
    for number, one in enumerate(spec.peers):
        tpm = SoftTpm(number)
        identity = EnrolledIdentity(one.peer, f"sha256:{number}", tpm.ek_public, tpm.ak_public, b"", one.uuid)
        store.enroll(identity, one, approved=True)
    store.close()
    for file in paths.gateway_state.iterdir():
        os.chown(file, GATEWAY_UID, GATEWAY_UID)
    monitor = Monitor(
        LabSpec(spec.lab, spec.network, (), spec.gateway, ""), Path(__file__).resolve().parents[1]
    )
    monitor._describe_programs()
    gateway = monitor.gateway
    assert isinstance(gateway, Machine)
    gateway.tpm.start()
    gateway.identify()
    gateway.boot()
    return gateway


def _start_swarm(spec: LabSpec, gateway: Machine) -> "subprocess.Popen[str]":
    identity = gateway.identify()
    setup = json.loads(LabPaths(spec.lab).gateway_setup.read_text())
    file = spec.lab.run_dir / "swarm.json"
    file.write_text(json.dumps({
        "first_ip": str(spec.peers[0].ip), "gateway_ip": str(spec.gateway.ip), "platform": spec.lab.name, "gateway_id": setup["gateway_id"],
        "ak": identity.ak_public.hex(), "ek": identity.ek_public.hex(), "gateway_profile": json.dumps(setup["gateway_profile"]),
    }))  # fmt: skip
    argv = [sys.executable, "-m", "bench.swarm", str(file), str(COUNT)]
    return subprocess.Popen(
        in_namespace(spec.lab.peer_namespace("crowd"), argv), stdout=subprocess.PIPE, text=True
    )


def _wait(swarm: "subprocess.Popen[str]") -> int:
    """Wait until all stand, or until it has had its time; return how many do."""
    assert swarm.stdout is not None
    deadline, standing = time.monotonic() + SETTLE_S, 0
    while time.monotonic() < deadline and standing < COUNT:
        standing = int(swarm.stdout.readline() or 0)
    return standing


def _pss(pid: int) -> int:
    match = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def _cpu_share(pids: list[int], seconds: float) -> float:
    def ticks() -> int:
        return sum(
            sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
            for pid in pids
        )

    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds
