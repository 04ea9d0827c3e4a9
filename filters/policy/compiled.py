"""What the kernel needs of a policy: disjoint ranges of flow keys, and who stands where."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from ipaddress import IPv4Address
from typing import Any

from filters.errors import PolicyError
from filters.flow import FlowKey, Protocol
from filters.policy.matching import denies
from filters.policy.model import Opening, Policy, Rule
from filters.policy.sweep import decided_pairs

MAX_BYTES = 60 << 20  # neither netd nor an inspector takes a longer message
_RANGE_BYTES = 52  # of a range written as `_range_to_json` does, addresses and names aside


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
    inspected: bool = False
    offloads: str = ""  # names how it is inspected where the kernel may carry the rest of a connection


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
    def _allowed(self) -> "_Index":
        return _index(self.allowed)

    @cached_property
    def _denied(self) -> "_Index":
        return _index(self.denied)

    def permits(self, key: FlowKey) -> KeyRange | None:
        """Return the range that allows this key, or None."""
        return _find(self._allowed, key)

    def denies(self, key: FlowKey) -> KeyRange | None:
        """Return the range by which a rule denies this key, or None."""
        return _find(self._denied, key)

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


_Index = Mapping[tuple[IPv4Address, IPv4Address, Protocol], list[KeyRange]]


def _index(ranges: Iterable[KeyRange]) -> _Index:
    index: dict[tuple[IPv4Address, IPv4Address, Protocol], list[KeyRange]] = {}
    for one in ranges:
        index.setdefault((one.source, one.destination, one.protocol), []).append(one)
    for found in index.values():
        found.sort(key=lambda one: one.first)
    return index


def _find(index: _Index, key: FlowKey) -> KeyRange | None:
    ranges = index.get((key.source, key.destination, key.service.protocol), [])
    at = bisect_right(ranges, key.service.port, key=lambda one: one.first) - 1
    return ranges[at] if at >= 0 and key.service.port <= ranges[at].last else None


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
        one.inspected,
        one.offloads,
    ]


# a large policy names each of its addresses many times
_address = lru_cache(maxsize=8192)(IPv4Address)


def _range_from_json(data: list[Any]) -> KeyRange:
    source, destination, protocol, first, last, on_demand, lease_ms, rule, inspected, offloads = data
    return KeyRange(
        _address(source),
        _address(destination),
        Protocol(protocol),
        int(first),
        int(last),
        bool(on_demand),
        int(lease_ms),
        str(rule),
        bool(inspected),
        str(offloads),
    )


def _offloads(rule: Rule, protocol: Protocol) -> str:
    spec = rule.inspection
    if protocol is not Protocol.TCP or spec is None or not spec.offload_after:
        return ""
    return sha256(json.dumps(spec.to_json(), sort_keys=True).encode()).hexdigest()[:16]


def _spec_bytes(rule: Rule) -> int:
    return len(json.dumps(rule.inspection.to_json())) if rule.inspection else 0


def _too_many_ranges(count: int, rule: Rule) -> PolicyError:
    return PolicyError(
        "too-large",
        f"the rules cut the ports of pairs of peers into more ranges than the kernel or an inspector is given at once: {count} "
        f"up to rule {rule.id} (line {rule.line}), expected {MAX_BYTES} bytes of them at most; name fewer peers or services in it",
    )


def compile_policy(
    policy: Policy, *, interface: str, gateway_ip: IPv4Address, control_port: int
) -> CompiledPolicy:
    """Resolve tiers into disjoint ranges; agrees with the evaluator's rule condition for every flow.

    Raises PolicyError `too-large` for what netd or an inspector can't be given in one message.
    """
    allowed: list[KeyRange] = []
    denied: list[KeyRange] = []
    netd = inspector = MAX_BYTES
    specs = {rule.id: _spec_bytes(rule) for rule in policy.rules}
    for source, destination, spans in decided_pairs(policy.rules):
        ends = policy.peers[source].ip, policy.peers[destination].ip
        each = _RANGE_BYTES + sum(len(str(ip)) for ip in ends)
        for span in spans:
            rule, on_demand = span.rule, span.rule.opening is Opening.ON_DEMAND
            one = KeyRange(
                *ends,
                span.protocol,
                span.first,
                span.last,
                on_demand,
                rule.lease_ms,
                rule.id,
                inspected=rule.inspection is not None,
                offloads=_offloads(rule, span.protocol),
            )
            (denied if denies(rule) else allowed).append(one)
            netd -= each + len(rule.id) + len(one.offloads)
            inspector -= each + len(rule.id) + specs[rule.id] if one.inspected else 0
            if netd < 0 or inspector < 0:
                raise _too_many_ranges(len(allowed) + len(denied), rule)
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
