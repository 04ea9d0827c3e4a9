"""The lab one gets without a policy of one's own: web, db, ops and more, with a few rules."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from authn.portmap import PortEntry
from vmhost.image.references import profile_for
from vmhost.issue import policy_text
from vmhost.lab.provisioning import PEER_PROFILE
from vmhost.lab.vms import GUEST
from vmhost.measured_boot import profile_for as lab_profile
from vmhost.names import GATEWAY, Lab
from vmhost.spec import LabSpec, mac_of

NETWORK = IPv4Network("10.77.0.0/24")
VM_BEACON_MS = 1000  # a quote takes an emulated processor a tenth of a second and more
FIRST_NAMES = ("web", "db", "ops")

PROFILE_TEXT = f"schema = 1\n\n{policy_text.profile_text(lab_profile(PEER_PROFILE))}"

RULES_TEXT = """
[[rule]]
id = "web-to-db"
from = "web"
to = "db"
service = "tcp/5432"
action = "allow"
lease = "5m"

[[rule]]
id = "web-to-db-http"
from = "web"
to = "db"
service = "tcp/8080"
action = "allow"
open = "on-demand"

[[rule]]
id = "ops-ping"
from = "ops"
to = "any"
service = "icmp/echo"
action = "allow"
open = "on-demand"
"""


def peer_names(count: int) -> tuple[str, ...]:
    """Name that many peers: web, db, ops, peer4 and so on."""
    more = tuple(f"peer{number}" for number in range(len(FIRST_NAMES) + 1, count + 1))
    return (FIRST_NAMES + more)[:count]


def place(name: str, ip: IPv4Address, port: str | None = None, mac: str | None = None) -> PortEntry:
    """Make a place on the bridge."""
    return PortEntry(name, port or name, mac or mac_of(ip), ip, str(uuid.uuid4()))


def peer_text(entry: PortEntry) -> str:
    """Write a peer of a lab as a policy has it."""
    return policy_text.peer_text(entry, PEER_PROFILE)


def make_spec(
    lab: Lab, peers: Sequence[PortEntry], policy_text: str, network: IPv4Network = NETWORK
) -> LabSpec:
    """Put a lab together; the gateway has the network's first address."""
    gateway_ip = network.network_address + 1
    return LabSpec(lab, network, tuple(peers), place(GATEWAY, gateway_ip, "gateway0"), policy_text)


def vm_spec(lab: Lab, images: Path, count: int = 2, network: IPv4Network = NETWORK) -> LabSpec:
    """Describe the default lab with virtual machines, which run the images in `images`."""
    return as_vms(default_spec(lab, count, network), images)


def as_vms(spec: LabSpec, images: Path) -> LabSpec:
    """Let virtual machines stand where a lab has namespaces: what a peer must prove is its image."""
    measured, lab = (
        policy_text.measured_text(one) for one in (profile_for(GUEST), lab_profile(PEER_PROFILE))
    )
    text = spec.policy_text.replace(lab, measured)
    text = text.replace(f'profile = "{PEER_PROFILE}"', f'profile = "{GUEST}"')
    return replace(spec, policy_text=text, images=images, beacon_interval_ms=VM_BEACON_MS, gateway_vm=True)


def default_spec(lab: Lab, count: int = 3, network: IPv4Network = NETWORK) -> LabSpec:
    """Describe the default lab with `count` peers (2 to 200)."""
    hosts = list(network.hosts())[1:]
    peers = [place(name, ip) for name, ip in zip(peer_names(count), hosts, strict=False)]
    rules = RULES_TEXT if count >= 3 else RULES_TEXT[: RULES_TEXT.index('\n[[rule]]\nid = "ops-ping"')]
    text = PROFILE_TEXT + "".join(map(peer_text, peers)) + rules
    return make_spec(lab, peers, text, network)
