"""What judging datagrams costs an inspector's process, beside scapy on every packet in the same rounds.

Detectors: secrets and malware. Packets: 64 bytes of text, and DNS queries, each of another client port. Time is the CPU
time of the process; receiving and answering (netd's socket) are not in it.
"""

import time
from collections.abc import Callable, Sequence

from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, UDP

from bench.stats import Figure
from filters.inspection.assignments import Assignment, Assignments
from filters.inspection.datagrams import Datagrams
from filters.inspection.spec import InspectionSpec
from filters.inspection.toolbox import Toolbox

SECONDS = 0.5
PACKETS = 200


def measure(rounds: int) -> list[Figure]:
    """About 2 s a round."""
    ends = IP(src="10.0.0.2", dst="10.0.0.3")
    small = [bytes(ends / UDP(sport=2000 + one, dport=9) / (b"text" * 16)) for one in range(PACKETS)]
    names = [
        bytes(ends / UDP(sport=2000 + one, dport=53) / DNS(rd=1, qd=DNSQR(qname=f"host{one}.example")))
        for one in range(PACKETS)
    ]
    judge = _judge()
    fast: list[float] = []
    dns: list[float] = []
    slow: list[float] = []
    for _ in range(rounds):
        fast.append(_rate(judge, small))
        dns.append(_rate(judge, names))
        slow.append(_rate(lambda packet: IP(packet).getlayer(DNS), names))
    return [
        Figure("small datagrams judged per CPU-second", "1/s", fast, "scapy, 1/s", slow, 150_000, True, False),
        Figure("DNS queries judged / dissected by scapy", "x", dns, "scapy, 1/s", slow, 10, True, True),
    ]  # fmt: skip


def _judge() -> Callable[[bytes], object]:
    toolbox, spec = Toolbox(), InspectionSpec(frozenset({"secrets", "malware"}))
    assignments = Assignments((Assignment(17, "10.0.0.2", "10.0.0.3", 1, 65535, "all", spec),))
    datagrams = Datagrams(toolbox.judge, toolbox.lacking, lambda _flow, _finding: None)
    return lambda packet: datagrams.verdict(packet, assignments, 0.0)


def _rate(handle: Callable[[bytes], object], packets: Sequence[bytes]) -> float:
    begun, count = time.process_time(), 0
    while time.process_time() - begun < SECONDS:
        for packet in packets:
            handle(packet)
        count += len(packets)
    return count / (time.process_time() - begun)
