"""What is measured in a running lab: handshakes, cuts, memory."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.stats import Figure
from gateway.cli.client import ApiClient, api_socket
from gateway.cli.demo.drawing import draw
from gateway.cli.demo.observe import Observer
from gateway.cli.demo.scene import Scene
from gateway.cli.demo.story import Story
from vmhost.commands import in_namespace, run
from vmhost.lab.provisioning import LabPaths
from vmhost.lab.setup import bring_up
from vmhost.lab.teardown import tear_down
from vmhost.names import GATEWAY, Lab

HANDSHAKES = 40
BUDGET = "max_restarts = 3"


class QuietStory(Story):
    """A story that says nothing."""

    def tell(self, text: str) -> None:
        """Say nothing."""
        del text


def measure(rounds: int) -> list[Figure]:
    """Bring a lab up and measure in it; about 5 s a round."""
    lab = Lab(f"bench{os.getpid() % 10000}")
    spec, cast = draw(lab, 7)
    object.__setattr__(spec, "policy_text", spec.policy_text.replace(BUDGET, "max_restarts = 1000"))
    owner, ours = os.pipe()
    see: Observer | None = None
    try:
        bring_up(spec, owner)
        see, story = Observer(lab), QuietStory()
        scene = Scene(spec, cast, ApiClient(api_socket(lab.name)), see, story)
        story.until("trusted", scene.all_trusted)
        scene.grant_authority()
        memory = [pss(scene) for _ in range(5)]
        figures = [
            *handshakes(scene, rounds),
            *cuts(scene, rounds),
            Figure("memory of the gateway with 3 peers (PSS)", "MiB", memory, "three empty Python processes, MiB", [empty_python() * 3] * 5, 256, False, False),
        ]  # fmt: skip
    finally:
        if see is not None:
            see.close()
        tear_down(lab)
        os.close(ours)
        os.close(owner)
    return figures


def pss(scene: Scene[Observer]) -> float:
    """Sum the proportional set size of the gateway's processes, in MiB."""
    return sum(_pss_of(pid) for pid in scene.pids(GATEWAY).values()) / 1024


def _pss_of(pid: int) -> int:
    match = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def empty_python() -> float:
    """Return the PSS of an interpreter that does nothing, in MiB."""
    code = "import re; print(re.search(r'Pss:\\s+(\\d+)', open('/proc/self/smaps_rollup').read())[1])"
    return int(run([sys.executable, "-c", code])) / 1024


def handshakes(scene: Scene[Observer], rounds: int) -> list[Figure]:
    """Shake hands as A from a program of our own, in turns with one bare quote of each TPM; then while C floods."""
    agent = scene.see.agent_pid(scene.a)
    os.kill(agent, signal.SIGSTOP)
    calm, flooded = [], []
    try:
        for _ in range(rounds):
            calm.append(_shake(scene))
            flood = scene.see.spawn_module(
                scene.cast.c, "bench.flood", scene.spec.gateway.ip, scene.spec.control_port, scene.ip(scene.b)
            )
            flooded.append(_shake(scene))
            flood.kill()
            flood.wait(5)
    finally:
        os.kill(agent, signal.SIGCONT)
    scene.story.until("trusted", scene.all_trusted, 30)
    note = (
        "TCP connect to m4 verified; incl. two processes' hops, X25519, two verifications, a durable record"
    )
    flood_note = (
        "C floods the control port, conntrack and holds from two threads of Python, which also take CPU"
    )
    return [
        Figure("mutual handshake p50 / two bare quotes", "x", [one[0] for one in calm], "one quote of each TPM, ms", [one[1] for one in calm], 3.0, False, True, note),
        Figure("handshake p99 while another floods / idle", "x", [one[2] for one in flooded], "idle p99, ms", [one[2] for one in calm], 3.0, False, True, flood_note),
        Figure("handshake rate of one peer while another floods / idle", "x", [one[3] for one in flooded], "idle, 1/s", [one[3] for one in calm], 0.3, True, True, flood_note),
    ]  # fmt: skip


def _shake(scene: Scene[Observer]) -> tuple[float, float, float, float]:
    setup, gateway = LabPaths(scene.lab).peer_setup(scene.a), f"swtpm:path={scene.lab.tpm_socket(GATEWAY)}"
    argv = [sys.executable, "-m", "bench.handshake", str(setup), gateway, str(HANDSHAKES)]
    p50, bare, p99, rate = map(float, run(in_namespace(scene.lab.peer_namespace(scene.a), argv)).split())
    return p50, bare, p99, rate


def cuts(scene: Scene[Observer], rounds: int) -> list[Figure]:
    """Measure, by capture at the receiver, how long a flow lives after its end is decided."""
    interval_ms = scene.spec.beacon_interval_ms
    bad, silent, explicit, idle = [], [], [], []
    for _ in range(rounds):
        bad.append(_cut(scene, lambda: scene.see.extend(scene.a, 10, os.urandom(32).hex()), 1.5))
        scene.story.until("trusted", scene.all_trusted, 30)
        agent = scene.see.agent_pid(scene.a)
        silent.append(_cut(scene, partial(os.kill, agent, signal.SIGSTOP), 1.0))
        os.kill(agent, signal.SIGCONT)
        scene.story.until("trusted", scene.all_trusted, 30)
        explicit.append(_cut(scene, lambda: scene.api.delete(f"/v1/sessions/{scene.granted[-1]}"), 0.3))
        idle.append(_api_round_trip(scene))
    base = [float(interval_ms)] * rounds
    return [
        Figure("bad answer: last packet after", "ms", bad, "T, ms", base, interval_ms + 50, False, False),
        Figure("silence: last packet after", "ms", silent, "2T, ms", [2 * one for one in base], 2 * interval_ms + 50, False, False),
        Figure("explicit cut: last packet after the request", "ms", explicit, "an API call that does nothing, ms", idle, 5, False, False, "from before the HTTP request to the last packet"),
    ]  # fmt: skip


def _api_round_trip(scene: Scene[Observer]) -> float:
    begun = time.perf_counter()
    scene.api.get("/v1/authority")
    return (time.perf_counter() - begun) * 1000


def _cut(scene: Scene[Observer], cause: Callable[[], object], wait_s: float) -> float:
    """Return ms from the cause to the last packet at B."""
    sink = scene.see.start(scene.b, "sink", scene.request_port)
    sink.first_line()
    chatter = scene.flow()
    capture = scene.see.capture(
        scene.b, f"tcp dst port {scene.request_port} and src host {scene.ip(scene.a)}"
    )
    time.sleep(0.3)
    at = time.time()
    cause()
    time.sleep(wait_s)
    packets = capture.stop()
    for program in (chatter, sink):
        program.kill()
    return max(0.0, max((when for when, _ in packets), default=at) - at) * 1000
