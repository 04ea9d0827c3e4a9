"""Shake hands as a peer, in turns with bare quotes: `python -m bench.handshake SETUP GATEWAY_TCTI COUNT`.

Prints both medians, the handshakes' 99th percentile, in ms, and handshakes per second without the pauses. Both are taken at the same pace, with the same pauses: a machine that has slept
answers later than one in full swing.
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path

from authn.tpm import Tpm
from authn.tpm_worker import TpmWorker
from gateway.agent.conversation import Conversation
from gateway.agent.setup import AgentSetup

PAUSE_S = 0.02


async def alternate(setup: AgentSetup, gateway_tcti: str, count: int) -> tuple[float, float, float, float]:
    """Return the medians (ms) of whole handshakes and of one quote of each TPM, the handshakes' p99, and their rate (1/s)."""
    worker, gateway = TpmWorker(setup.tpm), Tpm(gateway_tcti)
    identity = await worker.run(lambda tpm: tpm.provision())
    selection, full, bare = setup.profile.selection, [], []
    for _ in range(count):
        begun = time.perf_counter()
        reader, writer = await asyncio.open_connection(setup.gateway_ip, setup.control_port)
        await Conversation(setup, worker, reader, writer).handshake(identity, None)
        full.append((time.perf_counter() - begun) * 1000)
        writer.close()
        await asyncio.sleep(PAUSE_S)
        begun = time.perf_counter()
        gateway.quote(selection, b"n" * 32)
        await worker.run(lambda tpm: tpm.quote(selection, b"n" * 32))
        bare.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(PAUSE_S)
    worker.close()
    gateway.close()
    return (
        statistics.median(full),
        statistics.median(bare),
        sorted(full)[int(len(full) * 0.99)],
        1000 * count / sum(full),
    )


if __name__ == "__main__":
    print(*asyncio.run(alternate(AgentSetup.load(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]))))
