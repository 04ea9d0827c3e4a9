"""Steps 6 to 8: tampering, silence, a bad gateway, a dead gateway, and the record of it all."""

import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial

from gateway.cli.demo.scene import SLACK_S, Scene
from gateway.cli.demo.story import Story
from vmhost.commands import in_namespace, run
from vmhost.monitor.client import ask

CLEAN = "0" * 64


def cut_after(scene: Scene, story: Story, what: str, bound_s: float, cause: Callable[[], None]) -> None:
    """Run an established flow, let `cause` happen, and measure at the receiver when the last packet came."""
    sink = scene.see.spawn(scene.b, "sink", scene.request_port)
    time.sleep(0.3)
    chatter = scene.flow()
    capture = scene.see.capture(
        scene.b, f"tcp dst port {scene.request_port} and src host {scene.ip(scene.a)}"
    )
    time.sleep(0.3)
    at = time.time()
    cause()
    time.sleep(bound_s + 0.6)
    packets = capture.stop()
    chatter.kill()
    sink.kill()
    before = [when for when, _ in packets if when <= at]
    last = max((when for when, _ in packets), default=at) - at
    story.check(len(before) > 20, f"{scene.b} received {len(before)} packets of the flow before it")
    story.check(
        last <= bound_s,
        f"{what}: the last packet came {last * 1000:.0f} ms later, bound {bound_s * 1000:.0f} ms",
    )


def tampering(scene: Scene, story: Story) -> None:
    """A is tampered with: cut within T + 50 ms, restarted by itself, trusted anew, at last quarantined."""
    story.check(scene.see.pcr(scene.a, 10) == CLEAN, f"PCR 10 of {scene.a} is clean")
    resets = scene.peer(scene.a)["reset_count"]
    bad = scene.interval + SLACK_S
    cut_after(scene, story, "a bad answer", bad, lambda: scene.see.extend(scene.a, 10, secrets.token_hex(32)))
    reasons = [one["reason"] for one in scene.events("attestation-failed") if one["attributable"]]
    story.check(reasons[:1] == ["pcr-mismatch"], f"the reason is on record: {', '.join(reasons)}")
    story.until(f"{scene.a} was restarted and is trusted anew", lambda: _renewed(scene, resets))
    story.check(scene.see.pcr(scene.a, 10) == CLEAN, "its TPM was really restarted: PCR 10 is clean")
    story.until("a new session is granted", scene.open)


def _renewed(scene: Scene, resets: int) -> bool:
    peer = scene.peer(scene.a)
    return bool(peer["state"] == "trusted" and peer["reset_count"] > resets and peer["restarts"] >= 1)


def silence(scene: Scene, story: Story) -> None:
    """Silence, a stopped process and good answers that come late end a flow within 2T + 50 ms."""
    bound = 2 * scene.interval + SLACK_S
    block = ["nft", "add table ip demo; add chain ip demo out { type filter hook output priority 0; }; "
             f"add rule ip demo out tcp dport {scene.spec.control_port} drop"]  # fmt: skip
    cut_after(scene, story, "a silent peer", bound, lambda: _in_peer(scene, block))
    _in_peer(scene, ["nft", "delete table ip demo"])
    story.until(f"{scene.a} is heard and trusted again", lambda: scene.state(scene.a) == "trusted")

    agent = scene.agent_pid(scene.a)
    cut_after(scene, story, "a stopped agent", bound, lambda: os.kill(agent, signal.SIGSTOP))
    os.kill(agent, signal.SIGCONT)
    story.until(f"{scene.a} goes on and is trusted again", lambda: scene.state(scene.a) == "trusted")
    _late(scene, story, bound)


def _late(scene: Scene, story: Story, bound: float) -> None:
    agent, interval = scene.agent_pid(scene.a), scene.spec.beacon_interval_ms
    words = ("delay", "eth0", scene.spec.control_port, agent, int(interval * 0.6), int(interval * 0.15))
    delayers = []

    def start() -> None:
        delayers.append(scene.see.spawn(scene.a, *words))

    late_before = scene.peer(scene.a)["late_answers"]
    # the delaying program starts within the measured time: its start is part of the cause
    cut_after(scene, story, "good answers delivered late", bound + 0.3, start)
    late = scene.peer(scene.a)["late_answers"] - late_before
    for one in delayers:
        one.kill()
        one.wait(5)
    os.kill(agent, signal.SIGCONT)
    story.check(late > 0, f"{late} answers were good and too late: none of them counted, none was punished")
    story.until(f"{scene.a} answers in time and is trusted again", lambda: scene.state(scene.a) == "trusted")


def _in_peer(scene: Scene, argv: Sequence[str]) -> None:
    run(in_namespace(scene.lab.peer_namespace(scene.a), argv))


def quarantine(scene: Scene, story: Story) -> None:
    """After its restart budget the peer is quarantined, and only an operator lets it back."""
    for _ in range(4):
        if scene.state(scene.a) == "quarantined":
            break
        restarts = scene.peer(scene.a)["restarts"]
        scene.see.extend(scene.a, 10, secrets.token_hex(32))
        story.until(f"{scene.a} is restarted or quarantined", partial(_settled, scene, restarts))
    story.check(
        scene.state(scene.a) == "quarantined",
        f"after {scene.peer(scene.a)['restarts']} restarts {scene.a} is quarantined",
    )
    story.check(not scene.open(), "its request for a session is refused")
    scene.api.post(f"/v1/peers/{scene.a}/release")
    story.until(
        f"released by the operator, {scene.a} is trusted again", lambda: scene.state(scene.a) == "trusted"
    )


def _settled(scene: Scene, restarts: int) -> bool:
    peer = scene.peer(scene.a)
    return bool(
        peer["state"] == "quarantined" or (peer["state"] == "trusted" and peer["restarts"] > restarts)
    )


def bad_gateway(scene: Scene, story: Story) -> None:
    """A gateway whose own PCRs are wrong is refused by its peers; the monitor restarts it."""
    starts = ask(scene.lab, "status")["gateway"]["starts"]
    scene.see.extend("gateway", 10, secrets.token_hex(32))
    story.check(scene.see.pcr("gateway", 10) != CLEAN, "the gateway's PCR 10 was changed behind its back")
    story.until(
        "the monitor has restarted the gateway",
        lambda: ask(scene.lab, "status")["gateway"]["starts"] > starts,
    )
    why = ask(scene.lab, "status")["gateway"]["last_restart"]
    story.check("refused it" in why, f"because {why}")
    story.check(scene.see.pcr("gateway", 10) == CLEAN, "its TPM was restarted: PCR 10 is clean")
    story.until("all peers have attested it and are trusted", scene.all_trusted)
    story.until("a session is granted", scene.open)


def dead_gateway(scene: Scene, story: Story, how: signal.Signals) -> None:
    """All processes of the gateway end or stop: flows end by themselves, everything comes back by itself."""
    starts = ask(scene.lab, "status")["gateway"]["starts"]
    bound = 2 * scene.interval + SLACK_S
    pids = scene.gateway_pids()
    verb = "killed" if how is signal.SIGKILL else "stopped"

    def strike() -> None:
        for pid in pids:
            os.kill(pid, how)

    cut_after(scene, story, f"all {len(pids)} processes of the gateway {verb}", bound, strike)
    story.until(
        "the monitor has brought the gateway back",
        lambda: ask(scene.lab, "status")["gateway"]["starts"] > starts,
        30,
    )
    story.until("everybody has attested anew", scene.all_trusted)
    story.until("traffic returns: a session is granted", scene.open)


def record(scene: Scene, story: Story) -> None:
    """Everything the clients saw is on record, and the record is intact."""
    recorded = {one["session_id"] for one in scene.events("session-granted")}
    missing = [one for one in scene.granted if one not in recorded]
    story.check(not missing, f"all {len(scene.granted)} sessions that clients were granted are on record")
    heads = [json.loads(path.read_text()) for path in scene.lab.state_dir.glob("peers/*/audit_head.json")]
    answer = scene.api.post("/v1/audit/verify", known_heads=heads)
    story.check(
        answer["intact"],
        f"{answer['records']} records verify: chain, TPM signatures, counter, {len(heads)} peers as witnesses",
    )
