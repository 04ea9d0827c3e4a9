"""What the kernel needs of a policy: disjoint ranges of flow keys, and who stands where."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address
from itertools import pairwise
from typing import Any

from filters.errors import PolicyError
from filters.flow import FlowKey, Protocol
from filters.policy.matching import deciding, denies, rules_by_pair
from filters.policy.model import Opening, Policy, Rule


@dataclass(frozen=True, slots=True, order=True)
class KeyRange:
    """Flow keys of one pair and protocol, from the first to the last port, decided by one rule."""

    source: IPv4Address
    destination: IPv4Address
    protocol: Protocol
    first: int
    last: int
    on_demand: bool
    lease_ms: int
    rule: str


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """An address and the MAC that alone may use it."""

    ip: IPv4Address
    mac: str
    peer: str


@dataclass(frozen=True)
class CompiledPolicy:
    """A policy compiled for one gateway; ranges of one pair and protocol never overlap."""

    revision: str
    interface: str
    gateway_ip: IPv4Address
    control_port: int
    pins: tuple[Pin, ...]
    allowed: tuple[KeyRange, ...]
    denied: tuple[KeyRange, ...]

    @cached_property
    def _index(self) -> Mapping[tuple[IPv4Address, IPv4Address, Protocol], list[KeyRange]]:
        index: dict[tuple[IPv4Address, IPv4Address, Protocol], list[KeyRange]] = {}
        for one in self.allowed:
            index.setdefault((one.source, one.destination, one.protocol), []).append(one)
        for ranges in index.values():
            ranges.sort(key=lambda one: one.first)
        return index

    def permits(self, key: FlowKey) -> KeyRange | None:
        """Return the range that allows this key, or None."""
        ranges = self._index.get((key.source, key.destination, key.service.protocol), [])
        at = bisect_right(ranges, key.service.port, key=lambda one: one.first) - 1
        return ranges[at] if at >= 0 and key.service.port <= ranges[at].last else None

    def to_json(self) -> dict[str, Any]:
        """Write what `from_json` reads, in canonical order."""
        return {
            "revision": self.revision,
            "interface": self.interface,
            "gateway_ip": str(self.gateway_ip),
            "control_port": self.control_port,
            "pins": [[str(pin.ip), pin.mac, pin.peer] for pin in self.pins],
            "allowed": [_range_to_json(one) for one in self.allowed],
            "denied": [_range_to_json(one) for one in self.denied],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CompiledPolicy":
        """Read a compiled policy; raises PolicyError `malformed`."""
        try:
            return cls(
                str(data["revision"]),
                str(data["interface"]),
                IPv4Address(data["gateway_ip"]),
                int(data["control_port"]),
                tuple(Pin(IPv4Address(ip), str(mac), str(peer)) for ip, mac, peer in data["pins"]),
                tuple(_range_from_json(one) for one in data["allowed"]),
                tuple(_range_from_json(one) for one in data["denied"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PolicyError("malformed", f"not a compiled policy: {error}") from error

    def canonical(self) -> str:
        """Return the canonical JSON text."""
        return json.dumps(self.to_json(), sort_keys=True)


def _range_to_json(one: KeyRange) -> list[object]:
    return [
        str(one.source),
        str(one.destination),
        int(one.protocol),
        one.first,
        one.last,
        one.on_demand,
        one.lease_ms,
        one.rule,
    ]


def _range_from_json(data: list[Any]) -> KeyRange:
    source, destination, protocol, first, last, on_demand, lease_ms, rule = data
    return KeyRange(
        IPv4Address(source),
        IPv4Address(destination),
        Protocol(protocol),
        int(first),
        int(last),
        bool(on_demand),
        int(lease_ms),
        str(rule),
    )


def compile_policy(
    policy: Policy, *, interface: str, gateway_ip: IPv4Address, control_port: int
) -> CompiledPolicy:
    """Resolve tiers into disjoint ranges; agrees with the evaluator's rule condition for every flow."""
    allowed: list[KeyRange] = []
    denied: list[KeyRange] = []
    for (source, destination), rules in rules_by_pair(policy.rules).items():
        ends = policy.peers[source].ip, policy.peers[destination].ip
        for protocol in Protocol:
            for first, last, rule in _sweep(rules, protocol):
                one = KeyRange(
                    *ends, protocol, first, last, rule.opening is Opening.ON_DEMAND, rule.lease_ms, rule.id
                )
                (denied if denies(rule) else allowed).append(one)
    pins = sorted(Pin(peer.ip, peer.mac, peer.name) for peer in policy.peers.values())
    return CompiledPolicy(
        policy.revision,
        interface,
        gateway_ip,
        control_port,
        tuple(pins),
        tuple(sorted(allowed)),
        tuple(sorted(denied)),
    )


def _sweep(rules: Iterable[Rule], protocol: Protocol) -> Iterable[tuple[int, int, Rule]]:
    """Cut the port line wherever a rule begins or ends; each piece has one deciding rule."""
    spans = [
        (one.first, one.last, rule) for rule in rules for one in rule.services if one.protocol is protocol
    ]
    cuts = sorted({first for first, _, _ in spans} | {last + 1 for _, last, _ in spans})
    previous: tuple[int, int, Rule] | None = None
    for first, end in pairwise(cuts):
        rule = deciding(rule for low, high, rule in spans if low <= first and end - 1 <= high)
        if rule is not None and previous is not None and previous[2] is rule and previous[1] == first - 1:
            previous = (previous[0], end - 1, rule)
            continue
        if previous is not None:
            yield previous
        previous = (first, end - 1, rule) if rule is not None else None
    if previous is not None:
        yield previous
