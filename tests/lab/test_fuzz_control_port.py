"""Fuzz the live control port from an attested peer: no restart, no growth, nobody else is harmed.

`QUOTEGATE_FUZZ_MESSAGES` says how many (default 6,000; `make fuzz`: 100,000), `QUOTEGATE_FUZZ_SEED` repeats a run.
"""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.cli.demo.capture import Capture
from gateway.cli.demo.observe import Observer
from tests.attackers.fuzzer import PER_S
from tests.lab.conftest import RunningLab, running
from vmhost.lab.defaults import default_spec
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(1800)]
MESSAGES = int(os.environ.get("QUOTEGATE_FUZZ_MESSAGES", "6000"))
SEED = int(os.environ.get("QUOTEGATE_FUZZ_SEED", random.randrange(1 << 32)))
GROWTH = 1.10
PORT = 8080
WARM_UP = 1500


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    spec = default_spec(Lab(f"f{os.getpid()}"))
    patient = spec.policy_text.replace("max_restarts = 3", "max_restarts = 100")
    assert patient != spec.policy_text
    with running(replace(spec, policy_text=patient)) as one:
        one.cli("authority", "grant", "--for", "1h")
        yield one


def memory_kib(pids: dict[str, int]) -> dict[str, int]:
    """Proportional set size of each process."""
    found = {}
    for name, pid in pids.items():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found[name] = int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return found


def gateway_pids(lab: RunningLab) -> dict[str, int]:
    return dict(ask(lab.lab, "status")["gateway"]["pids"])


def standing(lab: RunningLab) -> list[tuple[object, ...]]:
    return [tuple(lab.peer(one)[key] for key in ("state", "restarts", "session_id")) for one in ("web", "db")]


def test_the_live_control_port_withstands_messages_that_are_almost_right(
    lab: RunningLab, tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    db, web = lab.spec.machine("db"), lab.spec.machine("web")
    see = Observer(lab.lab)
    try:
        see.spawn("db", "sink", PORT)
        time.sleep(0.5)
        with lab.without_agent("ops"):
            lab.run("ops", "tests.attackers.fuzzer", lab.setup("ops"), WARM_UP, SEED + 1, within_s=120)
            pids, before, peers = gateway_pids(lab), memory_kib(gateway_pids(lab)), standing(lab)
            capture = Capture.start(
                lab.lab.peer_namespace("db"), f"tcp dst port {PORT} and src host {web.ip}", tmp_path
            )
            see.spawn("web", "chatter", db.ip, PORT, 5)
            time.sleep(1)
            begun = time.time()
            (said,) = lab.run(
                "ops",
                "tests.attackers.fuzzer",
                lab.setup("ops"),
                MESSAGES,
                SEED,
                within_s=MESSAGES / PER_S * 3 + 120,
            )
            ended = time.time()
            times = [at for at, _ in capture.stop() if begun <= at <= ended]
            after = memory_kib(gateway_pids(lab))
            assert gateway_pids(lab) == pids
            assert standing(lab) == peers
    finally:
        see.close()
    gap = max(later - earlier for earlier, later in pairwise(times))
    growth = sum(after.values()) / sum(before.values())
    print(
        f"{MESSAGES} messages in {ended - begun:.0f} s, {said['ends']}; memory × {growth:.3f} of {sum(before.values())} KiB; "
        f"{len(times)} packets of the other flow, longest gap {gap * 1000:.0f} ms"
    )
    assert sum(said["ends"].values()) > 2
    assert growth <= GROWTH
    assert gap < 0.25
    assert len(times) > (ended - begun) * 50
    assert lab.json("audit", "verify")["intact"]
