"""Write the sets and maps of the table: their declarations and, for the static ones, the policy's elements."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import Final

from filters.errors import PolicyError
from filters.flow import Protocol
from filters.policy.compiled import CompiledPolicy, KeyRange
from filters.ruleset.names import FAMILY, FLOW_TYPE, PAIR_TYPE, STATIC_SETS, TABLE, MapName, SetName

MAX_PEERS: Final = 4096  # that a policy may have: a meter that is full limits nobody
_ROOM: Final = (
    2 * MAX_PEERS
)  # an expired element takes room for a second yet, and one that is removed is added first
MAX_LEASES: Final = 262_144
METER_IDLE: Final = "1m"  # a meter forgets a source that has been quiet for so long

_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

_TYPES: Final[Mapping[SetName, str]] = {
    SetName.INTERFACES: "type ifname",
    SetName.CONTROL: "type ipv4_addr . inet_service",
    SetName.PINS: "type ether_addr . ipv4_addr",
    SetName.PEERS: "type ipv4_addr",
    SetName.ALLOWED: f"type {FLOW_TYPE}; flags interval",
    SetName.ALLOWED_ICMP: f"type {PAIR_TYPE}",
    SetName.DENIED: f"type {FLOW_TYPE}; flags interval",
    SetName.DENIED_ICMP: f"type {PAIR_TYPE}",
    SetName.ON_DEMAND: f"type {FLOW_TYPE}; flags interval",
    SetName.ON_DEMAND_ICMP: f"type {PAIR_TYPE}",
    SetName.OFFLOADED: f"type {FLOW_TYPE}; flags interval",
    SetName.TRUSTED: f"type ipv4_addr; flags timeout; size {_ROOM}",
    SetName.QUARANTINED: f"type ipv4_addr; size {_ROOM}",
    SetName.AUTHORITY: "type ifname; flags timeout; size 16",
    SetName.AUTHORITY_HAD: "type ifname; size 16",
    SetName.LIVE: f"type mark; flags timeout; size {MAX_LEASES}",
    SetName.CONTROL_RATE: f"type ipv4_addr; flags dynamic,timeout; timeout {METER_IDLE}; size {MAX_PEERS}",
    SetName.CONTROL_CONNECTIONS: f"type ipv4_addr; flags dynamic; size {MAX_PEERS}",
    SetName.FRAGMENT_RATE: f"type ipv4_addr; flags dynamic,timeout; timeout {METER_IDLE}; size {MAX_PEERS}",
    SetName.HOLD_RATE: f"type ipv4_addr; flags dynamic,timeout; timeout {METER_IDLE}; size {MAX_PEERS}",
    SetName.INSPECTION_RATE: f"type ipv4_addr; flags dynamic,timeout; timeout {METER_IDLE}; size {MAX_PEERS}",
    SetName.CONNECTIONS: f"type ipv4_addr; flags dynamic; size {MAX_PEERS}",
    SetName.ICMP_ERROR_RATE: f"type ipv4_addr; flags dynamic,timeout; timeout {METER_IDLE}; size {MAX_PEERS}",
}
_MAP_TYPES: Final[Mapping[MapName, str]] = {
    MapName.LEASE: f"type {FLOW_TYPE} : mark; flags timeout; size {MAX_LEASES}",
    MapName.LEASE_ICMP: f"type {PAIR_TYPE} : mark; flags timeout; size {MAX_LEASES}",
}


RANGE_SETS: Final = tuple(name for name in STATIC_SETS if "interval" in _TYPES[name])


def declare_anew(name: SetName) -> str:
    """Return the command that declares one set in the table that is there."""
    return f"add set {FAMILY} {TABLE} {name} {{ {_TYPES[name]}; }}"


def declarations() -> list[str]:
    """Return the lines that declare every set and map, without elements."""
    sets = [f"\tset {name} {{ {_TYPES[name]}; }}" for name in SetName]
    return sets + [f"\tmap {name} {{ {_MAP_TYPES[name]}; }}" for name in MapName]


def fill(policy: CompiledPolicy) -> list[str]:
    """Return the commands that add `policy`'s elements to the (empty) static sets, in canonical order.

    Raises PolicyError when an interface or MAC could be read as anything but a name, or there are too many peers.
    """
    if len(policy.pins) > MAX_PEERS:
        message = (
            f"expected at most {MAX_PEERS} peers, as many as the kernel's sets keep apart, got {len(policy.pins)}: "
            "divide them among several gateways"
        )
        raise PolicyError("too-many-peers", message, most=MAX_PEERS, got=len(policy.pins))
    elements = static_elements(policy)
    return [_add(name, elements[name]) for name in STATIC_SETS if elements[name]]


def static_elements(policy: CompiledPolicy) -> dict[SetName, list[str]]:
    """Return what each static set must hold: one nft expression per element, sorted, without duplicates."""
    on_demand = tuple(key for key in policy.allowed if key.on_demand)
    pins = sorted(policy.pins, key=lambda pin: pin.ip)
    return {
        SetName.INTERFACES: [_interface(policy.interface)],
        SetName.CONTROL: [f"{policy.gateway_ip} . {policy.control_port}"],
        SetName.PINS: [f"{_mac(pin.mac)} . {pin.ip}" for pin in pins],
        SetName.PEERS: [str(pin.ip) for pin in pins],
        SetName.ALLOWED: _flows(policy.allowed),
        SetName.ALLOWED_ICMP: _pairs(policy.allowed),
        SetName.DENIED: _flows(policy.denied),
        SetName.DENIED_ICMP: _pairs(policy.denied),
        SetName.ON_DEMAND: _flows(on_demand),
        SetName.ON_DEMAND_ICMP: _pairs(on_demand),
        SetName.OFFLOADED: _flows(key for key in policy.allowed if key.offloads),
    }


def _add(name: SetName, elements: list[str]) -> str:
    lines = ",\n".join(f"\t{element}" for element in elements)
    return f"add element {FAMILY} {TABLE} {name} {{\n{lines}\n}}"


def _flows(keys: Iterable[KeyRange]) -> list[str]:
    ports = {
        (key.source, key.destination, key.protocol, key.first, key.last)
        for key in keys
        if key.protocol is not Protocol.ICMP
    }
    return [
        f"{source} . {destination} . {protocol.name.lower()} . {first if first == last else f'{first}-{last}'}"
        for source, destination, protocol, first, last in sorted(ports, key=_in_order)
    ]


def _in_order(flow: tuple[IPv4Address, IPv4Address, Protocol, int, int]) -> tuple[int, ...]:
    # numbers compare faster than addresses, in the same order
    source, destination, *rest = flow
    return int(source), int(destination), *rest


def _pairs(keys: Iterable[KeyRange]) -> list[str]:
    pairs = {(key.source, key.destination) for key in keys if key.protocol is Protocol.ICMP}
    return [f"{source} . {destination}" for source, destination in sorted(pairs)]


def _interface(name: str) -> str:
    if not _INTERFACE.fullmatch(name):
        raise PolicyError("unsafe-name", f"not an interface name: {name!r}", got=name)
    return f'"{name}"'


def _mac(mac: str) -> str:
    if not _MAC.fullmatch(mac.lower()):
        raise PolicyError("unsafe-name", f"not a MAC address: {mac!r}", got=mac)
    return mac.lower()
