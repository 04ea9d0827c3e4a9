"""Say which machines a lab has, and where they stand."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from authn.portmap import PortEntry
from vmhost.errors import HostError
from vmhost.names import BRIDGE, Lab
from vmhost.vm.spec import INTERFACE

CONTROL_PORT = 7443
BEACON_INTERVAL_MS = 200
VALID_DAYS, MOST_DAYS = 30, 3650
_OTHERS = (BRIDGE, "lo", "all", "default")  # the latter are words of sysctl's


@dataclass(frozen=True, slots=True)
class LabSpec:
    """A lab to bring up. The gateway has the network's first address. Raises HostError `bad-place` for places that can't be."""

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

    def __post_init__(self) -> None:
        for what in ("peer", "port", "mac", "ip"):
            taken: dict[object, str] = {}
            for one in (self.gateway, *self.peers):
                value = getattr(one, what)
                if value in taken:
                    raise _bad_place(one, what, "one that is free", f"{value}, which {taken[value]} has")
                taken[value] = one.peer
        ends = (self.network.network_address, self.network.broadcast_address)
        for one in self.peers:
            if not INTERFACE.fullmatch(one.port) or one.port in _OTHERS:
                expected = (
                    f"an interface's name, at most 15 of A-Z, a-z, 0-9 and _.-, none of {', '.join(_OTHERS)}"
                )
                raise _bad_place(one, "port", expected, repr(one.port))
            if one.ip not in self.network or one.ip in ends:
                raise _bad_place(one, "ip", f"a host's in {self.network}", str(one.ip))

    def machine(self, name: str) -> PortEntry:
        """Find a machine by name."""
        return next(entry for entry in (self.gateway, *self.peers) if entry.peer == name)


def _bad_place(one: PortEntry, what: str, expected: str, got: str) -> HostError:
    return HostError(
        "bad-place",
        f"peer {one.peer}: checked its {what}: expected {expected}, got {got}; nothing was started: choose another",
    )


def mac_of(ip: IPv4Address) -> str:
    """Return a locally administered MAC derived from an address."""
    return "52:54:" + ":".join(f"{octet:02x}" for octet in ip.packed)
