"""List the sysctls the ruleset relies on; netd writes them at start or refuses to start."""

from typing import Final

# (path below /proc/sys with {interface}, value as the kernel reads it back)
GATEWAY_SYSCTLS: Final[tuple[tuple[str, str], ...]] = (
    # route between guests of one subnet and answer ARP for all of them
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/{interface}/proxy_arp_pvlan", "1"),
    ("net/ipv4/neigh/{interface}/proxy_delay", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/{interface}/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/{interface}/accept_redirects", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/{interface}/accept_source_route", "0"),
    # the pins in the guard chain are stricter, and a transparent socket would fail the reverse path check
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/{interface}/rp_filter", "0"),
    # What waits for its other fragments: those of a packet come together. One peer's, at most 6000 (chains.py) of up to
    # 5 KiB with what the kernel adds, take less than half of the room that all share.
    ("net/ipv4/ipfrag_time", "1"),
    ("net/ipv4/ipfrag_high_thresh", str(64 * 1024 * 1024)),
    # a packet in mid-stream never makes a connection: after a flush it stays invalid
    ("net/netfilter/nf_conntrack_tcp_loose", "0"),
    ("net/netfilter/nf_conntrack_checksum", "1"),
    # connections that have ended count for nobody (chains.py), and fill the table that all share; what comes later than
    # this belongs to none, and is dropped
    ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "10"),
    # an inspector opens connections in a client's name: their ports are soon needed again (safe with timestamps, RFC 6191)
    ("net/ipv4/tcp_tw_reuse", "1"),
    # a connection that an inspector gives back is forwarded although its socket is still there for a moment
    ("net/ipv4/tcp_early_demux", "0"),
    # rejects carry the mark of the packet they answer; the output chain lets nothing else out
    ("net/ipv4/fwmark_reflect", "1"),
)

# The same, where the kernel has them at all (absent: there is nothing to turn off).
GATEWAY_SYSCTLS_IF_PRESENT: Final[tuple[tuple[str, str], ...]] = (
    ("net/netfilter/nf_conntrack_helper", "0"),
    # connections that were about to be accepted by an inspector that retires go to the newer one
    ("net/ipv4/tcp_migrate_req", "1"),
    ("net/ipv6/conf/all/forwarding", "0"),
    ("net/ipv6/conf/{interface}/accept_ra", "0"),
    # on, so that IPv6 gets as far as the guard chain and is counted there: off, it vanishes unseen
    ("net/ipv6/conf/{interface}/disable_ipv6", "0"),
)

# The whole machine's, raised where they are lower: in a namespace they are the host's and can't be written. A machine with
# less than 1 GiB would know fewer connections than one peer may have (chains.py), of which each that is inspected takes two.
MACHINE_SYSCTLS_AT_LEAST: Final[tuple[tuple[str, int], ...]] = (
    ("net/netfilter/nf_conntrack_max", 131_072),  # sixteen peers' at their limit; about 50 MB
    ("net/netfilter/nf_conntrack_buckets", 65_536),
)
