"""Name the objects of `table inet quotegate` once: the compiler writes them, netd changes them.

Element keys as the kernel takes them over netlink: every member of a concatenation is padded with zero
bytes to a multiple of four. A lease key is therefore 16 bytes: source (4), destination (4), protocol
(1 + 3), destination port (2, big endian, + 2). An `ifname` is 16 bytes, zero-padded. A `mark` is four
bytes in host order. Timeouts are 64-bit big-endian milliseconds.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from filters.reason import DropReason

FAMILY: Final = "inet"
TABLE: Final = "quotegate"

HOLD_QUEUE_NUMBER: Final = 17
INSPECTION_QUEUE_NUMBER: Final = 18
LOG_GROUP: Final = 7
LOG_SNAPLEN: Final = 96
LOG_PREFIX: Final = "qg "  # followed by the reason and one space

MARK_VOUCHED: Final = 0x1  # the guard chain saw that both ends of a whole packet are trusted
MARK_LEASED: Final = 0x10  # the lease chain let the packet through; forward demands it
MARK_REJECT: Final = 0x20  # the kernel's own answer to a rejected packet (fwmark_reflect); output demands it
MARK_INSPECTED: Final = 0x40  # for an inspector's socket: routed to this machine itself; input demands it
MARK_JUDGED: Final = (
    0x80  # an inspector let this datagram, or first packet of a connection, pass; the lease chain demands it
)
MARK_REFUSED: Final = 0x90  # the server refused the connection that this packet would open
INSPECTED_BIT: Final = 0x8000_0000  # of a lease id: its connections go through an inspector
HANDED_BIT: Final = (
    0x4000_0000  # of a connection's mark beside its lease id: its inspector gave it back to the kernel
)
MOST_INSPECTORS: Final = 8  # side by side, each with a number from 0
INSPECTION_PORT: Final = 7071  # where inspector 0 listens, the others above; no packet with these ports comes here that tproxy did not send
INSPECTION_TABLE: Final = 7071  # routing table for MARK_INSPECTED
MARK_CONTROL: Final = 0x30  # the guard chain knows the packet as one for the control port; input demands it

FLOW_TYPE: Final = "ipv4_addr . ipv4_addr . inet_proto . inet_service"
PAIR_TYPE: Final = "ipv4_addr . ipv4_addr"


class SetName(StrEnum):
    """Sets of the table. The static ones hold the policy, the dynamic ones hold what is true now."""

    # static: written by compile_ruleset and compile_policy_update only
    INTERFACES = "interfaces"  # ifname: where guests' packets come in
    CONTROL = "control"  # gateway address . control port
    PINS = "pins"  # ether_addr . ipv4_addr: who may have which address
    PEERS = "peers"  # ipv4_addr of every pinned peer
    ALLOWED = "allowed"  # FLOW_TYPE with a range of ports: a session may be opened
    ALLOWED_ICMP = "allowed_icmp"  # PAIR_TYPE: icmp/echo
    DENIED = "denied"
    DENIED_ICMP = "denied_icmp"
    ON_DEMAND = "on_demand"  # the first packet waits while the session opens
    ON_DEMAND_ICMP = "on_demand_icmp"
    OFFLOADED = "offloaded"  # FLOW_TYPE with a range of ports: inspected up to a depth, then the kernel's
    # dynamic: written by netd element by element
    TRUSTED = "trusted"  # ipv4_addr, timeout 2T, renewed per beacon
    QUARANTINED = "quarantined"  # ipv4_addr
    AUTHORITY = "authority"  # ifname, timeout: an administrator's authority is in force
    AUTHORITY_HAD = "authority_had"  # ifname: there was one before, so its absence means it expired
    LIVE = "live"  # mark: lease ids in force, timeout = lease
    # meters: written by the rules themselves
    CONTROL_RATE = "control_rate"
    CONTROL_CONNECTIONS = "control_connections"
    FRAGMENT_RATE = "fragment_rate"
    HOLD_RATE = "hold_rate"
    INSPECTION_RATE = "inspection_rate"
    CONNECTIONS = "connections"
    ICMP_ERROR_RATE = "icmp_error_rate"


class MapName(StrEnum):
    """Maps of the table; both lead to the 32-bit lease id, which becomes the connection's mark."""

    LEASE = "lease"  # FLOW_TYPE : mark, timeout
    LEASE_ICMP = "lease_icmp"  # PAIR_TYPE : mark, timeout (icmp/echo)


class ChainName(StrEnum):
    """Chains of the table, without the `drop_<reason>` chains (see `drop_chain`)."""

    # base chains
    GUARD = "guard"  # prerouting -450, before defragmentation and conntrack
    HOLD = "hold"  # prerouting -160, after conntrack
    INSPECT = "inspect"  # prerouting -155
    LEASE = "lease"  # prerouting -150
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    NAT_IN = "nat_in"  # empty: so that the kernel translates connections that were handed over
    NAT_OUT = "nat_out"
    # called by them
    NO_AUTHORITY = "no_authority"
    TO_CONTROL = "to_control"
    UNTRUSTED_DESTINATION = "untrusted_destination"
    LOOK_UP = "look_up"
    HOLD_LIMIT = "hold_limit"
    HOLD_QUEUE = "hold_queue"  # netd inserts its queue rule here where `nft queue` is missing
    INSPECTION_LIMIT = "inspection_limit"
    INSPECTION_QUEUE = "inspection_queue"  # the same
    RELATED = "related"
    ADMIT = "admit"
    REFUSE = "refuse"
    REFUSE_INVALID = "refuse_invalid"
    REFUSE_ICMP = "refuse_icmp"
    DIVERT = "divert"
    TO_INSPECTOR = "to_inspector"
    REFUSED_BY_SERVER = "refused_by_server"
    INSPECTOR_SENDS = "inspector_sends"
    OFFER = "offer"


# What netd writes element by element.
DYNAMIC: Final[tuple[SetName | MapName, ...]] = (
    SetName.TRUSTED,
    SetName.QUARANTINED,
    SetName.AUTHORITY,
    SetName.AUTHORITY_HAD,
    SetName.LIVE,
    *MapName,
)
STATIC_SETS: Final = (
    SetName.INTERFACES,
    SetName.CONTROL,
    SetName.PINS,
    SetName.PEERS,
    SetName.ALLOWED,
    SetName.ALLOWED_ICMP,
    SetName.DENIED,
    SetName.DENIED_ICMP,
    SetName.ON_DEMAND,
    SetName.ON_DEMAND_ICMP,
    SetName.OFFLOADED,
)

# Reasons the ruleset itself drops for, and whether the (trusted) sender is told.
VISIBLE: Final = frozenset(
    {DropReason.NO_RULE, DropReason.DENIED_BY_RULE, DropReason.NO_SESSION, DropReason.LEASE_EXPIRED}
)
RULESET_REASONS: Final = (
    DropReason.UNKNOWN_PROTOCOL,
    DropReason.PARSE_ERROR,
    DropReason.SPOOFED_SOURCE,
    DropReason.RESOURCE_LIMIT,
    DropReason.PEER_QUARANTINED,
    DropReason.COMMUNICATION_DISABLED,
    DropReason.AUTHORITY_EXPIRED,
    DropReason.NOT_ATTESTED,
    DropReason.HOLD_TIMEOUT,
    DropReason.INSPECTOR_DOWN,
    DropReason.NO_RULE,
    DropReason.DENIED_BY_RULE,
    DropReason.NO_SESSION,
    DropReason.LEASE_EXPIRED,
)


def opening_mark(inspector: int) -> int:
    """Return the mark of a packet that may open a connection to an inspector, by the inspector's number."""
    return MARK_JUDGED | inspector << 8


def drop_chain(reason: DropReason) -> str:
    """Return the name of the chain that counts, logs and drops for `reason`."""
    return "drop_" + reason.value.replace("-", "_")


def counter_name(reason: DropReason) -> str:
    """Return the name of the counter that counts drops for `reason`."""
    return drop_chain(reason)


COUNTERS: Final = MappingProxyType({counter_name(reason): reason for reason in RULESET_REASONS})
