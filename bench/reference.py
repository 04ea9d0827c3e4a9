"""Inspected throughput beside what one would write first: the NetfilterQueue library, with scapy dissecting each packet.

Both carry one TCP flow of the same corpus (bench/inspection.py) in the same rounds. Ours scans every byte for the
secret patterns and malware; the reference dissects each packet and looks for nothing. It gets single packets: the library
does not ask for segmentation offload.
"""

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from scapy.layers.inet import IP, TCP

from bench.bed import PORT, Bed, bed, compiled, netd_on, open_gates, route_plainly
from bench.inspection import RULE, SECONDS, SPECS, make_corpus
from bench.inspectors import Desk, inspector
from bench.stats import Figure
from filters.flow import FlowKey, Protocol, Service
from filters.netd.client import NetdClient
from filters.netd.netlink_socket import NetlinkSocket
from filters.netd.nf_tables import queue_rule_batch
from filters.ruleset.names import INSPECTED_BIT, TABLE, ChainName
from vmhost.commands import run
from vmhost.process import Program, Rights, start
from vmhost.spec import LabSpec

if TYPE_CHECKING:
    import netfilterqueue

QUEUE = 7
WAITING = 4096  # packets


def measure(rounds: int) -> list[Figure]:
    """About 10 s, and 3 s a round."""
    if importlib.util.find_spec("netfilterqueue") is None:
        sys.exit(
            "bench: the library to compare with is not installed: run scripts/setup-bench, or make bench"
        )
    with bed("bench-scapy", "10.70.3.0/24") as dissected, bed("bench-inspect", "10.70.2.0/24", RULE) as ours:
        route_plainly(dissected.spec)
        with netd_on(ours.spec) as socket, TemporaryDirectory(prefix="qg-bench-") as directory:
            return asyncio.run(_measure(dissected, ours, socket, Path(directory), rounds))


async def _measure(dissected: Bed, ours: Bed, netd: Path, directory: Path, rounds: int) -> list[Figure]:
    client = await NetdClient.connect(str(netd))
    corpus = directory / "corpus"
    corpus.write_bytes(make_corpus())
    await open_gates(client, ours.spec)
    key = FlowKey(ours.spec.machine("a").ip, ours.spec.machine("b").ip, Service(Protocol.TCP, PORT))
    await client.grant(INSPECTED_BIT | 1, key, 3_600_000)
    desk = Desk(compiled(ours.spec), SPECS)
    server = await asyncio.start_unix_server(desk.attend, directory / "control.sock")
    try:
        with inspector(ours.spec, netd, directory), _dissector(dissected.spec, directory):
            await asyncio.to_thread(desk.wait, 1)
            await asyncio.sleep(3)  # scapy is imported
            return await asyncio.to_thread(_rounds, dissected, ours, str(corpus), rounds)
    finally:
        server.close()
        await client.close()


def _rounds(dissected: Bed, ours: Bed, corpus: str, rounds: int) -> list[Figure]:
    inspected, reference = [], []
    for _ in range(rounds):
        inspected.append(ours.push(SECONDS, corpus) / 1e9)
        reference.append(dissected.push(SECONDS, corpus) / 1e9)
    return [
        Figure("every byte of one flow inspected / NetfilterQueue + scapy", "x", inspected, "NetfilterQueue + scapy, Gbit/s", reference, 30, True, True)
    ]  # fmt: skip


@contextmanager
def _dissector(spec: LabSpec, directory: Path) -> Iterator[None]:
    project = Path(__file__).resolve().parents[1]
    argv = (sys.executable, "-B", "-m", "bench.reference")
    program = Program(
        "dissector",
        argv,
        spec.lab.gateway_namespace,
        Rights(0, 0, ("net_admin",)),
        directory / "dissector.log",
        {"PYTHONPATH": str(project)},
    )
    running = start(program)
    try:
        yield
        if not running.alive:
            sys.exit(f"bench: the reference ended: {program.log.read_text()}")
    finally:
        running.stop()


def dissect() -> None:
    """Take every packet that this namespace forwards, dissect it, accept it. The kernel drops what finds no room."""
    from netfilterqueue import NetfilterQueue

    queue = NetfilterQueue()
    queue.bind(QUEUE, _accept, max_len=WAITING, sock_len=16 << 20)
    chain = f"chain {ChainName.FORWARD} {{ type filter hook forward priority 0; }}"
    run(["nft", "-f", "-"], text=f"table inet {TABLE} {{\n{chain}\n}}\n")
    with NetlinkSocket() as netlink:
        raw, last = queue_rule_batch(ChainName.FORWARD, QUEUE, netlink.sequence(3))
        netlink.execute(raw, last, "queue what is forwarded")
    queue.run()


def _accept(packet: "netfilterqueue.Packet") -> None:
    bytes(IP(packet.get_payload())[TCP].payload)
    packet.accept()


if __name__ == "__main__":
    dissect()
