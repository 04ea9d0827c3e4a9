"""Re-attest 10,000 simulated peers once a second: the gateway's CPU, and what a TPM of 5 signatures a second does to it.

Peers sign with real P-256 keys (`bench.soft_tpm`); their own work is not counted. Counted is what the gateway does for each: draw a beacon,
encode and seal it, open and decode the answer, verify the quote. The kernel's renewal through netd is counted apart.
"""

import asyncio
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable

from authn import labels, messages
from authn.beacon import BeaconTracker
from authn.channel import Channel
from authn.evidence import Counters, Quote
from authn.pcr import PcrSelection
from bench.bed import bed, netd_on, open_gates
from bench.soft_tpm import SoftTpm
from bench.stats import Figure
from filters.netd.client import NetdClient
from filters.netd.state import boottime
from gateway.tpmd.batch import QuoteBatcher

PEERS = int(os.environ.get("QG_RENEWALS", "10000"))
KEYS = 500
EPOCH, EXPORTER, VALUES = bytes(16), bytes(32), {4: bytes(32)}
SELECTION = PcrSelection.of([4])
PROOF_EVERY, SLOW_TPM_S, SECONDS = 5, 0.2, 4
RENEWALS = 2000


class _Link:
    """A session's two directions, from both ends, and its beacons."""

    def __init__(self, tpm: SoftTpm) -> None:
        secrets = os.urandom(32), os.urandom(32)
        self.tpm, (self.out, self.peer_in) = tpm, map(Channel, (secrets[0], secrets[0]))
        self.into, self.peer_out = map(Channel, (secrets[1], secrets[1]))
        self.tracker = BeaconTracker(
            tpm.identity,
            SELECTION,
            VALUES,
            Counters(0, 1, 0, True),
            EPOCH,
            EXPORTER,
            1.0,
            PROOF_EVERY,
            os.urandom,
        )

    def ask(self) -> bytes:
        """The gateway's part: a beacon on the wire."""
        return self.out.seal(messages.encode(self.tracker.next_beacon(0.0, (1, bytes(32)), None)))

    def answer(self, record: bytes) -> bytes:
        """The peer's part."""
        beacon = messages.decode(self.peer_in.open(record))
        assert isinstance(beacon, messages.Beacon)
        quote = self.tpm.quote(SELECTION, labels.beacon(beacon.nonce, EPOCH, EXPORTER), VALUES)
        return self.peer_out.seal(
            messages.encode(messages.BeaconAnswer(beacon.number, quote, bytes(32), b""))
        )

    def judge(self, record: bytes) -> None:
        """The gateway's part: the answer from the wire."""
        answer = messages.decode(self.into.open(record))
        assert isinstance(answer, messages.BeaconAnswer)
        assert self.tracker.judge(answer, 0.1) is not None


def measure(rounds: int) -> list[Figure]:
    """About 12 s a round."""
    tpms = [SoftTpm(number) for number in range(KEYS)]
    links = [_Link(tpms[number % KEYS]) for number in range(PEERS)]
    cpu, bare = [], []
    for _ in range(rounds):
        begun = time.process_time()
        asked = [link.ask() for link in links]
        middle = time.process_time()
        answers = [link.answer(record) for link, record in zip(links, asked, strict=True)]
        again = time.process_time()
        for link, record in zip(links, answers, strict=True):
            link.judge(record)
        cpu.append(middle - begun + time.process_time() - again)
        bare.append(_bare(tpms[0]) * PEERS)
    renewal, ping = asyncio.run(_renewals(rounds))
    waits, alone = asyncio.run(_slow_tpm(rounds))
    return [
        Figure(f"re-attest {PEERS} peers once: CPU of the gateway's core", "s", cpu, "bare ECDSA verifications, s", bare, 4.0, False, False, "at T = 1 s: cores used"),
        Figure(f"renew {PEERS} peers in the kernel through netd", "s", renewal, "as many bare requests, s", ping, 2.0, False, False, "both ends' time; one peer after the other"),
        Figure("wait for the proof of a beacon, TPM of 5 signatures/s, p99", "s", waits, "one signature alone, s", alone, 1.0, False, False, f"{PEERS} peers, T = 1 s, every {PROOF_EVERY}th beacon proved: {PEERS // PROOF_EVERY}/s; unbatched it could do 5/s"),
    ]  # fmt: skip


def _bare(tpm: SoftTpm) -> float:
    """CPU seconds of one verification."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    algorithm = ec.ECDSA(hashes.SHA256())
    signature, public = tpm.key.sign(b"x" * 150, algorithm), tpm.key.public_key()
    begun = time.process_time()
    for _ in range(500):
        public.verify(signature, b"x" * 150, algorithm)
    return (time.process_time() - begun) / 500


async def _renewals(rounds: int) -> tuple[list[float], list[float]]:
    with bed("bench-renew", "10.70.3.0/24") as place, netd_on(place.spec) as path:
        client = await NetdClient.connect(str(path))
        ip = place.spec.machine("a").ip
        try:
            await open_gates(client, place.spec)
            renewals = [await _seconds(lambda: client.trust(ip, boottime() + 60)) for _ in range(rounds)]
            pings = [await _seconds(client.ping) for _ in range(rounds)]
        finally:
            await client.close()
    return renewals, pings


async def _seconds(act: Callable[[], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    for _ in range(RENEWALS):
        await act()
    return (time.perf_counter() - begun) / RENEWALS * PEERS


async def _slow_tpm(rounds: int) -> tuple[list[float], list[float]]:
    """Ask for proofs at the pace of all peers; the TPM needs 0.2 s for each signature and does one at a time."""

    async def quote_root(_count: int, _root: bytes) -> Quote:
        await asyncio.sleep(SLOW_TPM_S)
        return Quote(b"", b"")

    results = []
    for _ in range(rounds):
        batcher, waits = QuoteBatcher(quote_root), list[float]()

        async def one(at: float, batcher: QuoteBatcher = batcher, waits: list[float] = waits) -> None:
            await asyncio.sleep(at)
            begun = time.perf_counter()
            await batcher.quote(os.urandom(32))
            waits.append(time.perf_counter() - begun)

        count = PEERS // PROOF_EVERY * SECONDS
        await asyncio.gather(*(one(random.uniform(0, SECONDS)) for _ in range(count)))
        results.append(statistics.quantiles(waits, n=100)[98])
    return results, [SLOW_TPM_S] * rounds
