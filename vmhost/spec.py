"""Say which machines a lab has, and where they stand."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from authn.portmap import PortEntry
from vmhost.names import Lab

CONTROL_PORT = 7443
BEACON_INTERVAL_MS = 200
VALID_DAYS, MOST_DAYS = 30, 3650


@dataclass(frozen=True, slots=True)
class LabSpec:
    """A lab to bring up. The gateway has the network's first address."""

    lab: Lab
    network: IPv4Network
    peers: tuple[PortEntry, ...]
    gateway: PortEntry
    policy_text: str
    control_port: int = CONTROL_PORT
    beacon_interval_ms: int = BEACON_INTERVAL_MS
    # False: every TPM waits for an operator's approval
    preapproved: bool = True
    # where built images are: the guests are real VMs then; None: they are namespaces
    images: Path | None = None
    # True: the gateway is a VM too, which boots the image `gateway`
    gateway_vm: bool = False
    # inspectors side by side
    inspectors: int = 1
    # how long a machine that is restarted may take to be trusted again; None: what its kind takes at most
    return_within_s: float | None = None
    # how long what is signed for it holds: port map, reference values, golden firmware
    valid_days: int = VALID_DAYS

    def machine(self, name: str) -> PortEntry:
        """Find a machine by name."""
        return next(entry for entry in (self.gateway, *self.peers) if entry.peer == name)


def mac_of(ip: IPv4Address) -> str:
    """Return a locally administered MAC derived from an address."""
    return "52:54:" + ":".join(f"{octet:02x}" for octet in ip.packed)
