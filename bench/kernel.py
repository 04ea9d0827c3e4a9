"""What the kernel's lease look-up costs: throughput, 100,000 leases, adding a lease."""

import asyncio
import statistics
import time

from bench.bed import PORT, Bed, bed, netd_on, open_gates, route_plainly
from bench.stats import Figure
from filters.flow import FlowKey, Protocol, Service
from filters.netd.client import NetdClient
from vmhost.spec import LabSpec

SECONDS = 1.0
MANY, FEW = 100_000, 10
TTL_MS = 3_600_000


def _key(spec: LabSpec, protocol: Protocol, port: int) -> FlowKey:
    return FlowKey(spec.machine("a").ip, spec.machine("b").ip, Service(protocol, port))


def measure(rounds: int) -> list[Figure]:
    """Run everything about the kernel; about 15 s and 2 s a round."""
    with bed("bench-plain", "10.70.1.0/24") as plain, bed("bench-lease", "10.70.2.0/24") as leased:
        route_plainly(plain.spec)
        with netd_on(leased.spec) as socket:
            return asyncio.run(_measure(plain, leased, socket, rounds))


async def _measure(plain: Bed, leased: Bed, socket: object, rounds: int) -> list[Figure]:
    client = await NetdClient.connect(str(socket))
    try:
        await open_gates(client, leased.spec)
        await client.grant(1, _key(leased.spec, Protocol.TCP, PORT), TTL_MS)
        routed, few = await _interleave(plain, leased, rounds)
        adds, pings = await _adds(client, leased.spec)
        await _fill(client, leased.spec)
        routed_too, many = await _interleave(plain, leased, rounds)
    finally:
        await client.close()
    # both lease counts stand beside the plain routing of their own, interleaved rounds
    few_share = [one / base for one, base in zip(few, routed, strict=True)]
    many_share = [one / base for one, base in zip(many, routed_too, strict=True)]
    gbit = 1e9
    return [
        Figure("leased / plain routed, one TCP flow", "x", [one / gbit for one in few], "plain routed, Gbit/s", [one / gbit for one in routed], 0.93, True, True),
        Figure(f"{MANY} leases / {FEW} leases, one TCP flow", "x", many_share, f"{FEW} leases, share of plain", [statistics.median(few_share)] * len(many_share), 0.95, True, True),
        Figure("lease add through netd's socket, p50", "ms", adds, "bare request to netd (ping), ms", pings, 0.2, False, False, "grant incl. two context switches and JSON"),
    ]  # fmt: skip


async def _interleave(plain: Bed, leased: Bed, rounds: int) -> tuple[list[float], list[float]]:
    routed, behind = [], []
    for _ in range(rounds):
        routed.append(await asyncio.to_thread(plain.push_from_one_cpu, SECONDS))
        behind.append(await asyncio.to_thread(leased.push_from_one_cpu, SECONDS))
    return routed, behind


async def _adds(client: NetdClient, spec: LabSpec) -> tuple[list[float], list[float]]:
    """Return medians of eleven batches of 100, interleaved."""
    adds, pings = [], []
    for batch in range(11):
        grant_times, ping_times = [], []
        for number in range(100):
            lease = 1000 + batch * 100 + number
            begun = time.perf_counter()
            await client.grant(lease, _key(spec, Protocol.UDP, lease), TTL_MS)
            middle = time.perf_counter()
            await client.ping()
            grant_times.append((middle - begun) * 1000)
            ping_times.append((time.perf_counter() - middle) * 1000)
        adds.append(statistics.median(grant_times))
        pings.append(statistics.median(ping_times))
    return adds, pings


async def _fill(client: NetdClient, spec: LabSpec) -> None:
    """Add leases until there are 100,000 in all."""
    keys = [(Protocol.UDP, port) for port in range(3000, 60_000)] + [
        (Protocol.TCP, port) for port in range(6000, 60_000)
    ]
    numbers = iter(range(200_000, 400_000))
    for at in range(0, MANY, 500):
        await asyncio.gather(
            *(client.grant(next(numbers), _key(spec, *key), TTL_MS) for key in keys[at : at + 500])
        )
