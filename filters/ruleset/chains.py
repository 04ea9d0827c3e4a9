"""Write the chains of the table. They depend on the kernel's features only: the policy is all in sets."""

from typing import Final

from filters.reason import DropReason
from filters.ruleset.features import Features
from filters.ruleset.names import (
    HANDED_BIT,
    HOLD_QUEUE_NUMBER,
    INSPECTED_BIT,
    INSPECTION_PORT,
    INSPECTION_QUEUE_NUMBER,
    LOG_GROUP,
    LOG_PREFIX,
    LOG_SNAPLEN,
    MARK_CONTROL,
    MARK_INSPECTED,
    MARK_JUDGED,
    MARK_LEASED,
    MARK_REFUSED,
    MARK_REJECT,
    MARK_VOUCHED,
    MOST_INSPECTORS,
    RULESET_REASONS,
    VISIBLE,
    ChainName,
    MapName,
    SetName,
    counter_name,
    drop_chain,
    opening_mark,
)

FLOW: Final = "ip saddr . ip daddr . meta l4proto . th dport"
PAIR: Final = "ip saddr . ip daddr"
BOTH_TRUSTED: Final = f"ip saddr @{SetName.TRUSTED} ip daddr @{SetName.TRUSTED}"
PORTED: Final = "meta l4proto { tcp, udp }"
SYN: Final = "tcp flags & (fin | syn | rst | ack) == syn"
INSPECTED: Final = f"ct mark & {INSPECTED_BIT:#x} == {INSPECTED_BIT:#x}"
HANDED: Final = f"ct mark & {HANDED_BIT:#x} == {HANDED_BIT:#x}"
LEASE_ID: Final = f"ct mark & {0xFFFF_FFFF ^ HANDED_BIT:#x}"
ECHO: Final = "icmp type echo-request icmp code 0"

CONTROL_SYNS: Final = "20/second burst 40 packets"  # per source
CONTROL_CONNECTIONS: Final = 64  # per source
HOLDS: Final = "32/second burst 64 packets"  # per source
INSPECTIONS: Final = "16000/second burst 4000 packets"  # per source, of the queue that all share
CONNECTIONS: Final = 8192  # per source; those in TIME_WAIT do not count
FRAGMENTS: Final = "4000/second burst 2000 packets"  # per source: see sysctls.py
ICMP_ERRORS: Final = "20/second burst 40 packets"  # per source
ICMP_ERROR_LENGTH: Final = 576  # RFC 1812 section 4.3.2.3: what a router may send, and no more
LOGS: Final = "50/second burst 100 packets"  # per reason

Chain = tuple[str, tuple[str, ...]]


def chains(features: Features) -> list[Chain]:
    """Return every chain as (name, lines), called chains before those that call them."""
    return [
        *(_drop(reason) for reason in RULESET_REASONS),
        _no_authority(),
        _control(),
        _guard(),
        _look_up(),
        _hold_queue(features),
        _hold_limit(),
        _hold(),
        _inspection_queue(features),
        _inspection_limit(),
        _inspect(),
        _refused_by_server(),
        _to_inspector(),
        *_offer(features),
        _divert(features),
        _admit(),
        _related(),
        _refuse_icmp(),
        _refuse(),
        _untrusted_destination(),
        _refuse_invalid(),
        _lease(features),
        _input(),
        _forward(),
        _inspector_sends(features),
        _output(),
        *_translate(features),
    ]


def _goto(reason: DropReason) -> str:
    return f"goto {drop_chain(reason)}"


def _base(hook: str, priority: int, policy: str) -> str:
    return f"type filter hook {hook} priority {priority}; policy {policy};"


def _drop(reason: DropReason) -> Chain:
    lines = [
        f'counter name "{counter_name(reason)}"',
        f'limit rate {LOGS} log prefix "{LOG_PREFIX}{reason} " group {LOG_GROUP} snaplen {LOG_SNAPLEN}',
    ]
    if reason in VISIBLE:
        lines += [
            # What conntrack calls invalid may belong to a living connection (late, out of window): a reset
            # would end that one.
            "ct state invalid,untracked drop",
            f"meta mark set {MARK_REJECT:#x}",
            "meta l4proto tcp reject with tcp reset",
            "reject with icmpx admin-prohibited",
        ]
    else:
        lines.append("drop")
    return drop_chain(reason), tuple(lines)


def _no_authority() -> Chain:
    return ChainName.NO_AUTHORITY, (
        f"iifname @{SetName.AUTHORITY_HAD} {_goto(DropReason.AUTHORITY_EXPIRED)}",
        _goto(DropReason.COMMUNICATION_DISABLED),
    )


def _control() -> Chain:
    rate = f"update @{SetName.CONTROL_RATE} {{ ip saddr limit rate over {CONTROL_SYNS} }}"
    return ChainName.TO_CONTROL, (
        f"{SYN} {rate} {_goto(DropReason.RESOURCE_LIMIT)}",
        f"meta mark set {MARK_CONTROL:#x} accept",
    )


def _guard() -> Chain:
    # Fragments never count as control traffic: strangers could fill the fragment table with them.
    whole = "ip frag-off & 0x3fff == 0"
    fragments = f"update @{SetName.FRAGMENT_RATE} {{ ip saddr limit rate over {FRAGMENTS} }}"
    return ChainName.GUARD, (
        _base("prerouting", -450, "drop"),
        "iif lo accept",
        "meta mark set 0",
        # Nearly every packet, at half the price: what is asked below line by line, for the reason, in one. Not asked are
        # interface, quarantine and control port: authority is only given for the interface, and netd trusts only
        # peers, none in quarantine. Fragments are left out: until the last one is there trust may have ended.
        f"ip hdrlength 5 {whole} {BOTH_TRUSTED} ether saddr . ip saddr @{SetName.PINS} iifname @{SetName.AUTHORITY} "
        f"meta mark set {MARK_VOUCHED:#x} accept",
        f"meta nfproto != ipv4 {_goto(DropReason.UNKNOWN_PROTOCOL)}",
        # who sends it comes first: whatever else is wrong is charged to a pinned source
        f"iifname != @{SetName.INTERFACES} {_goto(DropReason.SPOOFED_SOURCE)}",
        f"ether saddr . ip saddr != @{SetName.PINS} {_goto(DropReason.SPOOFED_SOURCE)}",
        f"ip hdrlength != 5 {_goto(DropReason.PARSE_ERROR)}",
        f"{whole} ip daddr . tcp dport @{SetName.CONTROL} goto {ChainName.TO_CONTROL}",
        f"ip saddr @{SetName.QUARANTINED} {_goto(DropReason.PEER_QUARANTINED)}",
        f"ip daddr @{SetName.QUARANTINED} {_goto(DropReason.PEER_QUARANTINED)}",
        f"iifname != @{SetName.AUTHORITY} goto {ChainName.NO_AUTHORITY}",
        f"ip saddr != @{SetName.TRUSTED} {_goto(DropReason.NOT_ATTESTED)}",
        f"{whole} accept",
        # who is not trusted gets nothing, and what waits for its other fragments takes room that all share
        f"ip daddr != @{SetName.TRUSTED} {_goto(DropReason.NOT_ATTESTED)}",
        f"{fragments} {_goto(DropReason.RESOURCE_LIMIT)}",
        "accept",
    )


def _look_up() -> Chain:
    # Always for a new packet: one-way UDP stays `new`, and its connection may carry an older lease's id.
    return ChainName.LOOK_UP, (
        f"{PORTED} ct mark set {FLOW} map @{MapName.LEASE}",
        f"{ECHO} ct mark set {PAIR} map @{MapName.LEASE_ICMP}",
    )


def _hold_queue(features: Features) -> Chain:
    if features.native_queue:
        return ChainName.HOLD_QUEUE, (f"queue num {HOLD_QUEUE_NUMBER}",)
    # netd inserts its queue rule before this one; until it has, there is nowhere to wait
    return ChainName.HOLD_QUEUE, (_goto(DropReason.HOLD_TIMEOUT),)


def _hold_limit() -> Chain:
    rate = f"update @{SetName.HOLD_RATE} {{ ip saddr limit rate over {HOLDS} }}"
    return ChainName.HOLD_LIMIT, (
        f"{rate} {_goto(DropReason.RESOURCE_LIMIT)}",
        f"goto {ChainName.HOLD_QUEUE}",
    )


def _hold() -> Chain:
    # A verdict of accept goes on at the lease chain, so that a wrong one still drops.
    return ChainName.HOLD, (
        _base("prerouting", -160, "accept"),
        "ct state != new accept",
        # the lease chain says why (or lets it pass, to the control port)
        f"ip daddr != @{SetName.TRUSTED} accept",
        f"jump {ChainName.LOOK_UP}",
        f"ct mark @{SetName.LIVE} accept",
        f"{PORTED} {FLOW} @{SetName.ON_DEMAND} goto {ChainName.HOLD_LIMIT}",
        f"{ECHO} {PAIR} @{SetName.ON_DEMAND_ICMP} goto {ChainName.HOLD_LIMIT}",
    )


def _inspection_queue(features: Features) -> Chain:
    if features.native_queue:
        return ChainName.INSPECTION_QUEUE, (f"queue num {INSPECTION_QUEUE_NUMBER}",)
    # netd inserts its queue rule before this one
    return ChainName.INSPECTION_QUEUE, (_goto(DropReason.INSPECTOR_DOWN),)


def _inspection_limit() -> Chain:
    rate = f"update @{SetName.INSPECTION_RATE} {{ ip saddr limit rate over {INSPECTIONS} }}"
    return ChainName.INSPECTION_LIMIT, (
        f"{rate} {_goto(DropReason.RESOURCE_LIMIT)}",
        f"goto {ChainName.INSPECTION_QUEUE}",
    )


def _inspect() -> Chain:
    # Datagrams, and what opens a connection: an inspector opens its other end first.
    # Before the lease chain: whatever an inspector says, trust and lease are looked up after it.
    return ChainName.INSPECT, (
        _base("prerouting", -155, "accept"),
        "tcp flags & (fin | syn | rst | ack) != syn accept",
        "meta l4proto != { tcp, udp, icmp } accept",
        f"ct state established ct mark & {INSPECTED_BIT:#x} == 0 accept",
        "ct state invalid,untracked,related accept",
        f"ip saddr != @{SetName.TRUSTED} accept",
        f"ip daddr != @{SetName.TRUSTED} accept",
        f"ct state new ct direction original jump {ChainName.LOOK_UP}",
        f"{INSPECTED} ct mark @{SetName.LIVE} goto {ChainName.INSPECTION_LIMIT}",
    )


def _admit() -> Chain:
    count = f"add @{SetName.CONNECTIONS} {{ ip saddr ct count over {CONNECTIONS} }}"
    return ChainName.ADMIT, (
        f"ct state new {count} {_goto(DropReason.RESOURCE_LIMIT)}",
        f"{INSPECTED} goto {ChainName.DIVERT}",
        f"meta mark set {MARK_LEASED:#x} accept",
    )


def _refused_by_server() -> Chain:
    # no drop of ours: what the server itself answered
    return ChainName.REFUSED_BY_SERVER, (f"meta mark set {MARK_REJECT:#x}", "reject with tcp reset")


def _to_inspector() -> Chain:
    # Nobody listens there: the rule does not match, and the packet is dropped.
    return ChainName.TO_INSPECTOR, (
        f"meta mark {MARK_REFUSED:#x} goto {ChainName.REFUSED_BY_SERVER}",
        *(
            f"meta l4proto tcp meta mark {opening_mark(one):#x} tproxy ip to :{INSPECTION_PORT + one} meta mark set {MARK_INSPECTED:#x} accept"
            for one in range(MOST_INSPECTORS)
        ),
        _goto(DropReason.INSPECTOR_DOWN),
    )


def _offer(features: Features) -> list[Chain]:
    # No timestamps where a connection may be handed over: each leg's clock is another (RFC 7323 section 3.2).
    if not features.handover:
        return []
    return [(ChainName.OFFER, (f"{FLOW} @{SetName.OFFLOADED} reset tcp option timestamp",))]


def _offered(features: Features) -> tuple[str, ...]:
    return (f"{SYN} jump {ChainName.OFFER}",) if features.handover else ()


def _translate(features: Features) -> list[Chain]:
    if not features.handover:
        return []
    return [
        (ChainName.NAT_IN, ("type nat hook prerouting priority -100; policy accept;",)),
        (ChainName.NAT_OUT, ("type nat hook postrouting priority 100; policy accept;",)),
    ]


def _divert(features: Features) -> Chain:
    # To an inspector's socket, or nowhere: an inspected connection is only forwarded once its inspector gave it
    # back, a datagram only when judged.
    handed = (f"{HANDED} meta mark set {MARK_LEASED:#x} accept",) if features.handover else ()
    return ChainName.DIVERT, (
        f"meta l4proto != tcp meta mark {MARK_JUDGED:#x} meta mark set {MARK_LEASED:#x} accept",
        f"meta l4proto != tcp {_goto(DropReason.INSPECTOR_DOWN)}",
        # receivers place urgent data differently (RFC 6093)
        f"tcp flags & urg == urg {_goto(DropReason.PARSE_ERROR)}",
        # before sockets: a connection that is closed for a minute yet may open anew
        *_offered(features),
        f"{SYN} goto {ChainName.TO_INSPECTOR}",
        *handed,
        f"socket transparent 1 meta mark set {MARK_INSPECTED:#x} accept",
        _goto(DropReason.INSPECTOR_DOWN),
    )


def _inspector_sends(features: Features) -> Chain:
    # What an inspector sends in a peer's name needs the same trust and lease as what peers send.
    return ChainName.INSPECTOR_SENDS, (
        f"ct state invalid,untracked {_goto(DropReason.NO_SESSION)}",
        f"ct state new ct direction original jump {ChainName.LOOK_UP}",
        *_offered(features),
        f"{INSPECTED} ct mark @{SetName.LIVE} accept",
        f"ct mark != 0 {_goto(DropReason.LEASE_EXPIRED)}",
        _goto(DropReason.NO_SESSION),
    )


def _related() -> Chain:
    rate = f"update @{SetName.ICMP_ERROR_RATE} {{ ip saddr limit rate over {ICMP_ERRORS} }}"
    errors = "{ destination-unreachable, time-exceeded, parameter-problem }"
    return ChainName.RELATED, (
        f"meta l4proto != icmp {_goto(DropReason.UNKNOWN_PROTOCOL)}",  # there are no helpers: no expectations
        f"icmp type != {errors} {_goto(DropReason.UNKNOWN_PROTOCOL)}",
        f"ct mark 0 {_goto(DropReason.NO_SESSION)}",
        # Conntrack compares only whom it is sent to, and there are no routers here: it comes from the flow's other end,
        # whose packets the quoted one would meet. The guard has found the sender's MAC to be the one of its address.
        *(
            f"ct direction {way} ether saddr . ct {way} ip saddr != @{SetName.PINS} {_goto(DropReason.NO_SESSION)}"
            for way in ("original", "reply")
        ),
        f"{LEASE_ID} != @{SetName.LIVE} {_goto(DropReason.LEASE_EXPIRED)}",
        # it quotes what its sender likes, and no inspector looks at it
        f"ct mark & {INSPECTED_BIT | HANDED_BIT:#x} == {INSPECTED_BIT:#x} {_goto(DropReason.UNKNOWN_PROTOCOL)}",
        f"ip length > {ICMP_ERROR_LENGTH} {_goto(DropReason.PARSE_ERROR)}",
        f"{rate} {_goto(DropReason.RESOURCE_LIMIT)}",
        f"meta mark set {MARK_LEASED:#x} accept",
    )


def _refuse_icmp() -> Chain:
    return ChainName.REFUSE_ICMP, (
        f"icmp type != echo-request {_goto(DropReason.UNKNOWN_PROTOCOL)}",
        f"icmp code != 0 {_goto(DropReason.UNKNOWN_PROTOCOL)}",
        f"{PAIR} @{SetName.DENIED_ICMP} {_goto(DropReason.DENIED_BY_RULE)}",
        f"{PAIR} != @{SetName.ALLOWED_ICMP} {_goto(DropReason.NO_RULE)}",
        f"ct mark != 0 {_goto(DropReason.LEASE_EXPIRED)}",
        _goto(DropReason.NO_SESSION),
    )


def _refuse() -> Chain:
    return ChainName.REFUSE, (
        # the policy speaks about who opens; an answer has only its connection's lease
        f"ct direction reply ct mark != 0 {_goto(DropReason.LEASE_EXPIRED)}",
        f"ct direction reply {_goto(DropReason.NO_SESSION)}",
        f"meta l4proto icmp goto {ChainName.REFUSE_ICMP}",
        f"meta l4proto != {{ tcp, udp }} {_goto(DropReason.UNKNOWN_PROTOCOL)}",
        f"{FLOW} @{SetName.DENIED} {_goto(DropReason.DENIED_BY_RULE)}",
        f"{FLOW} != @{SetName.ALLOWED} {_goto(DropReason.NO_RULE)}",
        f"ct mark != 0 {_goto(DropReason.LEASE_EXPIRED)}",
        _goto(DropReason.NO_SESSION),
    )


def _refuse_invalid() -> Chain:
    return ChainName.REFUSE_INVALID, (
        f"meta l4proto != {{ tcp, udp, icmp }} {_goto(DropReason.UNKNOWN_PROTOCOL)}",
        _goto(DropReason.NO_SESSION),
    )


def _untrusted_destination() -> Chain:
    # In the evaluator's order: that no rule would allow it comes before who is attested.
    return ChainName.UNTRUSTED_DESTINATION, (
        f"ct state != new {_goto(DropReason.NOT_ATTESTED)}",
        f"ip daddr != @{SetName.PEERS} {_goto(DropReason.NO_RULE)}",
        f"{PORTED} {FLOW} @{SetName.ALLOWED} {_goto(DropReason.NOT_ATTESTED)}",
        f"{ECHO} {PAIR} @{SetName.ALLOWED_ICMP} {_goto(DropReason.NOT_ATTESTED)}",
        f"goto {ChainName.REFUSE}",
    )


def _known(features: Features) -> tuple[str, ...]:
    # The guard has just seen that both ends are trusted: what waits between it and here opens a connection, is inspected
    # or was in fragments, and has no such mark. This is the rest of the way of nearly every packet, in one rule.
    leased = f"@{SetName.LIVE} meta mark set {MARK_LEASED:#x} accept"
    both = f"{INSPECTED_BIT | HANDED_BIT:#x}"
    established = f"meta mark {MARK_VOUCHED:#x} ct state established ct mark & {both}"
    handed = f"{established} == {both} tcp flags & (syn | urg) == 0 {LEASE_ID} {leased}"
    return f"{established} == 0 ct mark {leased}", *((handed,) if features.handover else ())


def _lease(features: Features) -> Chain:
    return ChainName.LEASE, (
        _base("prerouting", -150, "drop"),
        *_known(features),
        "iif lo accept",
        f"ct state invalid,untracked goto {ChainName.REFUSE_INVALID}",
        f"meta mark {MARK_CONTROL:#x} accept",
        # again after the guard: a held packet has waited in between
        f"ip saddr != @{SetName.TRUSTED} {_goto(DropReason.NOT_ATTESTED)}",
        f"ip daddr != @{SetName.TRUSTED} goto {ChainName.UNTRUSTED_DESTINATION}",
        f"ct state new ct direction original jump {ChainName.LOOK_UP}",
        f"ct state related goto {ChainName.RELATED}",
        f"{LEASE_ID} @{SetName.LIVE} goto {ChainName.ADMIT}",
        f"goto {ChainName.REFUSE}",
    )


def _input() -> Chain:
    count = f"add @{SetName.CONTROL_CONNECTIONS} {{ ip saddr ct count over {CONTROL_CONNECTIONS} }}"
    return ChainName.INPUT, (
        _base("input", 0, "drop"),
        "iifname lo accept",
        f"meta mark {MARK_INSPECTED:#x} accept",
        f"meta mark != {MARK_CONTROL:#x} {_goto(DropReason.NO_SESSION)}",
        f"ct state new {count} {_goto(DropReason.RESOURCE_LIMIT)}",
        "ct state new,established accept",
        _goto(DropReason.NO_SESSION),
    )


def _forward() -> Chain:
    return ChainName.FORWARD, (
        _base("forward", 0, "drop"),
        f"meta mark {MARK_LEASED:#x} accept",
        _goto(DropReason.NO_SESSION),
    )


def _output() -> Chain:
    return ChainName.OUTPUT, (
        _base("output", 0, "drop"),
        "oifname lo accept",
        f"ip saddr . tcp sport @{SetName.CONTROL} ct state established accept",
        f"meta l4proto tcp meta mark {{ 0x0, {MARK_INSPECTED:#x} }} {BOTH_TRUSTED} goto {ChainName.INSPECTOR_SENDS}",
        # the kernel's rejects, and its ICMP errors about leased packets, carry the mark of their cause
        f"meta mark {{ {MARK_LEASED:#x}, {MARK_REJECT:#x} }} ip daddr @{SetName.TRUSTED} accept",
    )
