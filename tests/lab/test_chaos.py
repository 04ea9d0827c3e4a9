"""Kill, stop and restart each process of the gateway at random instants under live traffic.

`QUOTEGATE_CHAOS` says at how many instants (default 12; `make chaos`: 50), `QUOTEGATE_CHAOS_SEED` repeats a run.
"""

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest

from gateway.authority.gate import create_grant
from gateway.cli.demo.observe import Observer
from gateway.errors import GatewayError
from tests.lab.conftest import RunningLab
from vmhost.lab.provisioning import load_administrator_key
from vmhost.monitor.client import ask

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]

INSTANTS = int(os.environ.get("QUOTEGATE_CHAOS", "12"))
SEED = int(os.environ.get("QUOTEGATE_CHAOS_SEED", random.randrange(1 << 32)))
PROCESSES = ("netd", "tpmd", "quotegated", "inspector")
ALONE = "inspector"  # the only one that is restarted without the others
FAULTS = ("kill", "stop", "restart")
PORT = 5432
SLACK_S = 0.050
BACK_WITHIN_S = 30.0


@dataclass
class Fault:
    """One fault: a stop with `until` goes on then; all others end in a restart of the gateway, or of the inspector alone."""

    process: str
    kind: str
    at: float
    until: float | None = None

    @property
    def demands_a_stop(self) -> bool:
        """Without netd or quotegated nobody renews trust; tpmd's death alone proves nothing about the peers.

        The flow watched here is not inspected: inspectors are nothing to it (tests/lab/test_inspection.py).
        """
        return self.process not in ("tpmd", ALONE)

    def __str__(self) -> str:
        return f"{self.kind} {self.process}" + (f" for {self.until - self.at:.2f} s" if self.until else "")


@dataclass
class Chaos:
    """The traffic, what the clients saw, and what the receivers got."""

    lab: RunningLab
    see: Observer
    seen: list[dict[str, Any]] = field(default_factory=list)
    authorities: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def ip(self, peer: str) -> str:
        return str(self.lab.spec.machine(peer).ip)

    def start(self) -> None:
        self.see.spawn("db", "sink", PORT)
        time.sleep(0.5)
        ports = (str(PORT), "8080", "22")
        for peer, target, disguise in (
            ("ops", "db", "web"),
            ("ops", "web", "db"),
            ("web", "db", ""),
            ("db", "web", ""),
        ):
            wanted = ports[2:] if peer == "web" else ports  # the policy lets web ask for the others
            self.see.spawn_module(
                peer,
                "tests.lab.traffic",
                "stranger",
                self.ip(target),
                self.ip(disguise) if disguise else "-",
                *wanted,
            )
        client = self.see.spawn_module(
            "web", "tests.lab.traffic", "client", self.lab.lab.agent_socket("web"), "db", PORT
        )
        threading.Thread(target=self._read, args=(client,), daemon=True).start()
        threading.Thread(target=self._administer, daemon=True).start()

    def _read(self, client: Any) -> None:
        for line in client.stdout:
            self.seen.append(json.loads(line))

    def _administer(self) -> None:
        """Grant authority again and again; note which grants the gateway acknowledged."""
        key = load_administrator_key(self.lab.lab)
        while not self.ended.wait(0.4):
            with contextlib.suppress(GatewayError, OSError):
                sequence = self.lab.api.get("/v1/authority")["sequence"] + 1
                grant = create_grant(sequence, time.time() + 3600, key)
                self.authorities.append(
                    self.lab.api.post("/v1/authority/grant", grant=grant.decode())["sequence"]
                )

    def gateway(self) -> dict[str, Any]:
        return dict(ask(self.lab.lab, "status")["gateway"])

    def well(self, since: float, starts: int) -> bool:
        """Tell whether the gateway was started that often and is whole, all are trusted, and traffic flows again."""
        flowing = any("flowing" in one and one["at"] > since for one in self.seen[-20:])
        gateway = self.gateway()
        whole = set(gateway["pids"]) == set(PROCESSES) and gateway["starts"] >= starts
        return flowing and whole and self.lab.all_trusted()

    def strike(self, process: str, kind: str, stop_s: float | None) -> int:
        """Do it; return how often the gateway must have been started once this is overcome."""
        gateway = self.gateway()
        pid = gateway["pids"][process]
        fault = Fault(process, kind, time.time())
        self.faults.append(fault)
        os.kill(pid, {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "restart": signal.SIGTERM}[kind])
        if kind == "stop" and stop_s is not None:
            time.sleep(stop_s)
            fault.until = time.time()
            with contextlib.suppress(ProcessLookupError):  # the monitor was quicker
                os.kill(pid, signal.SIGCONT)
        return int(gateway["starts"]) + (fault.until is None and process != ALONE)

    def events(self, code: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = 0
        while batch := self.lab.api.get(f"/v1/events?after={after}")["events"]:
            after = batch[-1]["metadata"]["sequence"]
            found += [one for one in batch if one["metadata"]["event_code"] == code]
        return found


@pytest.fixture
def chaos(lab: RunningLab) -> Iterator[Chaos]:
    see = Observer(lab.lab)
    one = Chaos(lab, see)
    lab.cli("authority", "grant", "--for", "1h")
    try:
        yield one
    finally:
        one.ended.set()
        see.close()


def plan(rng: random.Random, count: int) -> list[tuple[str, str, float | None]]:
    """Draw the faults: every pair of process and fault as often as the others; some stops last for ever."""
    pairs = list(product(PROCESSES, FAULTS))
    drawn = [pairs[number % len(pairs)] for number in range(count)]
    rng.shuffle(drawn)
    return [
        (
            process,
            kind,
            None if kind == "stop" and rng.random() < 0.25 else rng.uniform(0.6, 2.5),
        )
        for process, kind in drawn
    ]


def payloads(packets: list[tuple[float, bytes]]) -> list[float]:
    """Return when TCP segments with content came (the gateway's own resets have none)."""
    times = []
    for when, packet in packets:
        header = (packet[0] & 15) * 4
        if int.from_bytes(packet[2:4], "big") > header + (packet[header + 12] >> 4) * 4:
            times.append(when)
    return times


@pytest.mark.timeout(120 + 30 * INSTANTS)
def test_faults_at_random_instants(chaos: Chaos) -> None:
    print(f"seed {SEED}, {INSTANTS} instants")
    rng, lab = random.Random(SEED), chaos.lab
    web, db, gateway = chaos.ip("web"), chaos.ip("db"), str(lab.spec.gateway.ip)
    # what the gateway itself says to a sender it trusts: resets in the target's name, and ICMP errors in its own
    own = f"src host {gateway} or tcp[tcpflags] & tcp-rst != 0"
    leased = f"tcp and src host {web} and dst host {db} and dst port {PORT}"
    stray = {
        "db": f"ip and dst host {db} and not ({own}) and not (src host {web} and tcp port {PORT})",
        "web": f"ip and dst host {web} and not ({own}) and not (src host {db} and tcp src port {PORT})",
    }
    captures = {peer: chaos.see.capture(peer, expression) for peer, expression in stray.items()}
    flow = chaos.see.capture("db", leased)
    chaos.start()
    _strike_all(chaos, rng)
    chaos.ended.set()
    packets = flow.stop()
    strays = {peer: capture.stop() for peer, capture in captures.items()}
    assert {peer: [packet.hex() for _, packet in found[:5]] for peer, found in strays.items()} == {
        "db": [],
        "web": [],
    }
    _check_stops(chaos, payloads(packets))
    _check_record(chaos)


def _strike_all(chaos: Chaos, rng: random.Random) -> None:
    last, starts = 0.0, 1
    for number, (process, kind, stop_s) in enumerate(plan(rng, INSTANTS), 1):
        chaos.lab.until(lambda since=last, starts=starts: chaos.well(since, starts), BACK_WITHIN_S)
        time.sleep(rng.uniform(0.0, 0.5))
        starts = chaos.strike(process, kind, stop_s)
        last = time.time()
        print(f"{number}: {chaos.faults[-1]}")
    chaos.lab.until(lambda: chaos.well(last, starts), BACK_WITHIN_S)


def _check_stops(chaos: Chaos, times: list[float]) -> None:
    """After a fault and its bound nothing of the flow arrives before the process goes on or a session is granted anew."""
    bound = 2 * chaos.lab.spec.beacon_interval_ms / 1000 + SLACK_S
    grants = sorted(one["time"] / 1000 for one in chaos.events("session-granted"))
    assert len(times) > 50 * INSTANTS
    worst = 0.0
    for fault in chaos.faults:
        if not fault.demands_a_stop:
            continue
        again = min((at for at in grants if at > fault.at + bound), default=time.time())
        end = again if fault.until is None else fault.until
        late = [when - fault.at for when in times if fault.at + bound < when < end]
        worst = max(
            [worst, *(when - fault.at for when in times if fault.at < when < min(end, fault.at + bound))]
        )
        assert not late, f"{fault}: {len(late)} packets, the last after {late[-1] * 1000:.0f} ms"
    print(f"traffic ended at most {worst * 1000:.0f} ms after a fault, bound {bound * 1000:.0f} ms")


def _check_record(chaos: Chaos) -> None:
    """Nothing that a client saw is missing in the record, and the record is whole."""
    seen = {one["granted"] for one in chaos.seen if "granted" in one}
    recorded = {one["unmapped"]["session_id"] for one in chaos.events("session-granted")}
    assert len(seen) >= INSTANTS / 3
    assert seen <= recorded
    granted = {one["unmapped"]["sequence"] for one in chaos.events("authority-changed")}
    assert len(chaos.authorities) >= INSTANTS
    assert set(chaos.authorities) <= granted
    time.sleep(1.2)
    answer = chaos.lab.json("audit", "verify")
    assert (answer["intact"], answer["witnesses"]) == (True, 3), answer
    assert {one["state"] for one in chaos.lab.json("peers")} == {"trusted"}
    print(
        f"{len(seen)} sessions and {len(chaos.authorities)} grants seen, {answer['records']} records intact"
    )
