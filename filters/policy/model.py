"""A policy as the rest of the program sees it: parsed, resolved, immutable."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address

from filters.flow import Protocol, Service
from filters.inspection.spec import InspectionSpec


class Action(StrEnum):
    """What a rule does."""

    ALLOW = "allow"
    DENY = "deny"


class Tier(IntEnum):
    """Which rules go first: a lower number decides before a higher one."""

    MANDATORY = 0
    SITE = 1
    SESSION = 2


class Mode(StrEnum):
    """Whether a rule that denies acts, or only says what it would do; one that allows does so in either mode."""

    ENFORCE = "enforce"
    AUDIT = "audit"


class Opening(StrEnum):
    """Who opens a session: the agent's request, or the first packet as well."""

    REQUEST = "request"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True, slots=True)
class OnFail:
    """What happens to a peer that fails: restarts within a window (s), then something final."""

    action: str = "restart"
    max_restarts: int = 3
    window_s: float = 900.0
    then: str = "quarantine"


@dataclass(frozen=True, slots=True)
class ProfileSpec:
    """What a quote must prove: reference names by PCR of the SHA-256 bank (`ima:NAME` for PCR 10: a list of files).

    max_quote_age_ms: for so long at most a quote is worth trust; None: for two beacon intervals, as with any larger age.
    """

    name: str
    pcrs: Mapping[int, str]
    max_quote_age_ms: int | None
    on_fail: OnFail
    layers: tuple[str, ...] = ("tpm",)


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer the policy knows: an identity, never an address alone."""

    name: str
    port: str
    mac: str
    ip: IPv4Address
    ek: str | None
    profile: str
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class ServiceRange:
    """Services of one protocol from the first to the last port (ICMP echo: 0 to 0)."""

    protocol: Protocol
    first: int
    last: int

    def __contains__(self, service: object) -> bool:
        return (
            isinstance(service, Service)
            and service.protocol is self.protocol
            and self.first <= service.port <= self.last
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, its ends resolved to peer names. `line` is where the file has it."""

    id: str
    sources: frozenset[str]
    destinations: frozenset[str]
    services: tuple[ServiceRange, ...]
    action: Action
    tier: Tier
    mode: Mode
    opening: Opening
    lease_ms: int
    line: int
    inspection: InspectionSpec | None = None

    def matches(self, source: str, destination: str, service: Service) -> bool:
        """Tell whether this rule speaks about the flow."""
        return (
            source in self.sources
            and destination in self.destinations
            and source != destination
            and any(service in one for one in self.services)
        )


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """A test the policy carries: this flow, given these peer states, must come out so."""

    source: str
    destination: str
    service: Service
    given: Mapping[str, str]
    expect: str
    line: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy; `revision` is the SHA-256 of its text."""

    revision: str
    peers: Mapping[str, Peer]
    profiles: Mapping[str, ProfileSpec]
    rules: tuple[Rule, ...]
    tests: tuple[PolicyTest, ...]
