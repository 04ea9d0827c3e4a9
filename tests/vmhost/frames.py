"""Send and see raw Ethernet frames: `python -m tests.vmhost.frames send KIND … | listen`.

Every frame carries MARK, so that a listener knows it.
"""

import socket
import sys
import time

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, LLC, STP, Dot1Q, Ether
from scapy.packet import Packet, Raw

MARK = b"quotegate-side-door"
OTHER_MAC, OTHER_IP = "52:54:99:99:99:99", "10.77.0.99"


def _frames(
    mac: str, ip: str, peer_mac: str, peer_ip: str, gateway_mac: str, gateway_ip: str
) -> dict[str, Packet]:
    echo = ICMP() / Raw(MARK)
    who = {"op": 1, "hwsrc": mac, "psrc": ip}
    broadcast = "ff:ff:ff:ff:ff:ff"
    return {
        "to-gateway": Ether(src=mac, dst=gateway_mac) / IP(src=ip, dst=peer_ip) / echo,
        "arp-for-gateway": Ether(src=mac, dst=broadcast) / ARP(**who, pdst=gateway_ip) / Raw(MARK),
        "straight-to-peer": Ether(src=mac, dst=peer_mac) / IP(src=ip, dst=peer_ip) / echo,
        "spoofed-mac": Ether(src=OTHER_MAC, dst=gateway_mac) / IP(src=ip, dst=peer_ip) / echo,
        "spoofed-ip": Ether(src=mac, dst=gateway_mac) / IP(src=OTHER_IP, dst=peer_ip) / echo,
        "peers-ip": Ether(src=mac, dst=gateway_mac) / IP(src=peer_ip, dst=gateway_ip) / echo,
        "peers-mac-and-ip": Ether(src=peer_mac, dst=gateway_mac) / IP(src=peer_ip, dst=gateway_ip) / echo,
        "gateways-mac": Ether(src=gateway_mac, dst=peer_mac) / IP(src=ip, dst=peer_ip) / echo,
        "arp-spoofed-sender-ip": Ether(src=mac, dst=broadcast) / ARP(op=1, hwsrc=mac, psrc=peer_ip, pdst=gateway_ip) / Raw(MARK),
        "arp-spoofed-sender-mac": Ether(src=mac, dst=broadcast) / ARP(op=1, hwsrc=OTHER_MAC, psrc=ip, pdst=gateway_ip) / Raw(MARK),
        "arp-as-gateway": Ether(src=mac, dst=peer_mac) / ARP(op=2, hwsrc=mac, psrc=gateway_ip, hwdst=peer_mac, pdst=peer_ip) / Raw(MARK),
        "ipv6": Ether(src=mac, dst="33:33:00:00:00:01") / IPv6(src="fe80::1", dst="ff02::1") / Raw(MARK),
        "vlan": Ether(src=mac, dst=gateway_mac) / Dot1Q(vlan=5) / IP(src=ip, dst=peer_ip) / echo,
        "bpdu": Ether(src=mac, dst="01:80:c2:00:00:00", type=60) / LLC() / STP() / Raw(MARK),
        "lldp": Ether(src=mac, dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(MARK),
        "unknown-ethertype": Ether(src=mac, dst=gateway_mac, type=0x9000) / Raw(MARK),
        "broadcast-ip": Ether(src=mac, dst=broadcast) / IP(src=OTHER_IP, dst="255.255.255.255") / echo,
    }  # fmt: skip


FRAMES = tuple(
    _frames("52:54:00:00:00:01", "10.0.0.1", "52:54:00:00:00:02", "10.0.0.2", "52:54:00:00:00:03", "10.0.0.3")
)


def send(kind: str, *places: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind(("eth0", 0))
        for _ in range(2):
            out.send(bytes(_frames(*places)[kind]))


def listen() -> None:
    """Say `seen` when a marked frame comes in within half a second."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as into:
        into.bind(("eth0", 3))
        print("ready", flush=True)
        deadline = time.monotonic() + 1.2
        while (left := deadline - time.monotonic()) > 0:
            into.settimeout(left)
            try:
                frame, address = into.recvfrom(2048)
            except TimeoutError:
                return
            if MARK in frame and address[2] != socket.PACKET_OUTGOING:
                print("seen", flush=True)
                return


if __name__ == "__main__":
    if sys.argv[1] == "listen":
        listen()
    else:
        send(*sys.argv[2:])
