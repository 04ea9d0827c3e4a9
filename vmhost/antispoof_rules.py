"""Compile the host bridge's anti-spoof table: who may send what from which port. Pure (nft text).

At prerouting, before the bridge decides anything: (port, MAC, address) must be one of the map's places,
for IPv4 and for ARP's own sender fields. IPv6, VLAN tags, BPDU, LLDP and unknown ethertypes are dropped.
"""

from collections.abc import Iterable

from authn.portmap import PortEntry

TABLE = "quotegate_host"
COUNTERS = ("spoofed-source", "unknown-protocol")


def compile_antispoof(gateway: PortEntry, peers: Iterable[PortEntry]) -> str:
    """Return the table for `nft -f`; loading it again replaces it in one step."""
    places = ",\n".join(
        f'\t\t\t"{one.port}" . {one.mac} . {one.ip}' for one in sorted(peers, key=lambda one: one.ip)
    )
    counters = "\n".join(f"\tcounter {name} {{ }}" for name in COUNTERS)
    elements = f"\n\t\telements = {{\n{places}\n\t\t}}" if places else ""
    return f"""table bridge {TABLE}
delete table bridge {TABLE}
table bridge {TABLE} {{
{counters}

	set places {{
		type ifname . ether_addr . ipv4_addr{elements}
	}}

	chain ingress {{
		type filter hook prerouting priority -300; policy drop;
		ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 goto drop_unknown
		ether type ip iifname . ether saddr . ip saddr @places accept
		iifname "{gateway.port}" goto from_gateway
		ether type ip goto drop_spoofed
		ether type != arp goto drop_unknown
		iifname . arp saddr ether . arp saddr ip @places iifname . ether saddr . arp saddr ip @places accept
		goto drop_spoofed
	}}

	chain from_gateway {{
		ether type != {{ ip, arp }} goto drop_unknown
		ether saddr != {gateway.mac} goto drop_spoofed
		ether type ip accept
		arp saddr ether {gateway.mac} accept
		goto drop_spoofed
	}}

	chain drop_spoofed {{
		counter name spoofed-source drop
	}}

	chain drop_unknown {{
		counter name unknown-protocol drop
	}}
}}
"""
