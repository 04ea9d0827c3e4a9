"""What judging datagrams costs an inspector's process, beside scapy on every packet in the same rounds.

Detectors: secrets and malware. Packets: 64 bytes of text, and DNS queries, each of another client port. Time is the CPU
time of the process. What it receives and answers is measured as an inspector does it: over a socket, from another process.
"""

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, UDP

from bench.stats import Figure
from filters.inspection.assignments import Assignment, Assignments
from filters.inspection.datagrams import Datagrams, Endpoint
from filters.inspection.spec import InspectionSpec
from filters.inspection.toolbox import Toolbox
from filters.inspection.worker.opening import Opening
from filters.inspection.worker.packets import Packets
from filters.netd.verdicts import PACKET, PASS, VERDICT

SECONDS = 0.5
PACKETS = 200
BURST, AHEAD = (
    64,
    128,
)  # packets: what netd takes from its queue at once, and what may wait for a verdict here
ROOM = 4 << 20  # bytes on their way to an inspector: as netd has it
_SO_SNDBUFFORCE = 32


def measure(rounds: int) -> list[Figure]:
    """About 3 s a round."""
    ends = IP(src="10.0.0.2", dst="10.0.0.3")
    small = [bytes(ends / UDP(sport=2000 + one, dport=9) / (b"text" * 16)) for one in range(PACKETS)]
    names = [
        bytes(ends / UDP(sport=2000 + one, dport=53) / DNS(rd=1, qd=DNSQR(qname=f"host{one}.example")))
        for one in range(PACKETS)
    ]
    datagrams, assignments = _inspector()
    fast: list[float] = []
    live: list[float] = []
    dns: list[float] = []
    slow: list[float] = []
    for _ in range(rounds):
        fast.append(_rate(lambda packet: datagrams.verdict(packet, assignments, 0.0), small))
        dns.append(_rate(lambda packet: datagrams.verdict(packet, assignments, 0.0), names))
        slow.append(_rate(lambda packet: IP(packet).getlayer(DNS), names))
        live.append(_live_rate(datagrams, assignments, small))
    return [
        Figure("small datagrams judged per CPU-second", "1/s", fast, "scapy, 1/s", slow, 150_000, True, False),
        Figure("small datagrams received, judged and answered per CPU-second", "1/s", live, "judged alone, 1/s", fast, 150_000, True, False),
        Figure("DNS queries judged / dissected by scapy", "x", dns, "scapy, 1/s", slow, 10, True, True),
    ]  # fmt: skip


def _inspector() -> tuple[Datagrams, Assignments]:
    toolbox, spec = Toolbox(), InspectionSpec(frozenset({"secrets", "malware"}))
    assignments = Assignments((Assignment(17, "10.0.0.2", "10.0.0.3", 1, 65535, "all", spec),))
    return Datagrams(toolbox.judge, toolbox.lacking, lambda _flow, _finding: None), assignments


def _rate(handle: Callable[[bytes], object], packets: Sequence[bytes]) -> float:
    begun, count = time.process_time(), 0
    while time.process_time() - begun < SECONDS:
        for packet in packets:
            handle(packet)
        count += len(packets)
    return count / (time.process_time() - begun)


def _live_rate(datagrams: Datagrams, assignments: Assignments, packets: Sequence[bytes]) -> float:
    """Let another process play netd; return the packets that got their verdict per CPU-second of this one."""
    netd, inspector = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    netd.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, ROOM)
    told, tells = multiprocessing.Pipe(duplex=False)
    feeder = multiprocessing.get_context("fork").Process(target=_feed, args=(netd, inspector, packets, tells))
    feeder.start()
    netd.close()
    begun = time.process_time()
    asyncio.run(_serve(inspector, datagrams, assignments))
    used = time.process_time() - begun
    answered = int(told.recv())
    feeder.join()
    inspector.close()
    return answered / used


async def _serve(inspector: socket.socket, datagrams: Datagrams, assignments: Assignments) -> None:
    async def nobody(_client: Endpoint, _server: Endpoint, _shift: int | None) -> socket.socket:
        raise ConnectionRefusedError  # not asked: these are datagrams

    opening = Opening(nobody, lambda _client, _server: False)
    await Packets(inspector, datagrams, opening, lambda: assignments, lambda: None).serve()


def _feed(netd: socket.socket, inspector: socket.socket, packets: Sequence[bytes], tells: Connection) -> None:
    """Send as fast as the socket takes it, and count the verdicts."""
    inspector.close()
    netd.settimeout(10)
    messages = [PACKET.pack(number) + packet for number, packet in enumerate(packets)]
    sent = answered = 0
    until = time.monotonic() + 2 * SECONDS
    while time.monotonic() < until:
        for _ in range(BURST):
            netd.send(messages[sent % len(messages)])
            sent += 1
        while sent - answered > AHEAD:
            answered += _passed(netd.recv(1 << 16))
    while answered < sent:
        answered += _passed(netd.recv(1 << 16))
    netd.close()
    tells.send(answered)


def _passed(answer: bytes) -> int:
    verdicts = [number for _, number in VERDICT.iter_unpack(answer)]
    if set(verdicts) != {PASS}:
        raise SystemExit(f"bench: clean datagrams were dropped: {verdicts}")
    return len(verdicts)
