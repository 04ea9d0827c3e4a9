"""Steps 6 to 8 with namespaces: tampering, quarantine, a bad gateway, a dead gateway."""

import os
import secrets
import signal
from functools import partial

from gateway.cli.demo.observe import Observer
from gateway.cli.demo.scene import Scene
from gateway.cli.demo.steps_cut import cut_after, renewed
from gateway.cli.demo.story import Story
from vmhost.monitor.client import ask
from vmhost.names import GATEWAY

CLEAN = "0" * 64


def tampering(scene: Scene[Observer], story: Story) -> None:
    """A is tampered with: cut within T + 50 ms, restarted by itself, trusted anew, at last quarantined."""
    story.check(scene.see.pcr(scene.a, 10) == CLEAN, f"PCR 10 of {scene.a} is clean")
    resets, bad = scene.peer(scene.a)["reset_count"], scene.see.pace.bad_answer_s
    cut_after(scene, story, "a bad answer", bad, lambda: scene.see.extend(scene.a, 10, secrets.token_hex(32)))
    reasons = [one["reason"] for one in scene.events("attestation-failed") if one["attributable"]]
    story.check(reasons[:1] == ["pcr-mismatch"], f"the reason is on record: {', '.join(reasons)}")
    story.until(f"{scene.a} was restarted and is trusted anew", lambda: renewed(scene, resets))
    story.check(scene.see.pcr(scene.a, 10) == CLEAN, "its TPM was really restarted: PCR 10 is clean")
    story.until("a new session is granted", scene.open)


def quarantine(scene: Scene[Observer], story: Story) -> None:
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


def _settled(scene: Scene[Observer], restarts: int) -> bool:
    peer = scene.peer(scene.a)
    return bool(
        peer["state"] == "quarantined" or (peer["state"] == "trusted" and peer["restarts"] > restarts)
    )


def bad_gateway(scene: Scene[Observer], story: Story) -> None:
    """A gateway whose own PCRs are wrong is refused by its peers; the monitor restarts it."""
    starts = scene.gateway_starts()
    scene.see.extend(GATEWAY, 10, secrets.token_hex(32))
    story.check(scene.see.pcr(GATEWAY, 10) != CLEAN, "the gateway's PCR 10 was changed behind its back")
    story.until("the monitor has restarted the gateway", lambda: scene.gateway_starts() > starts)
    why = ask(scene.lab, "status")["gateway"]["last_restart"]
    story.check("refused it" in why, f"because {why}")
    story.check(scene.see.pcr(GATEWAY, 10) == CLEAN, "its TPM was restarted: PCR 10 is clean")
    story.until("all peers have attested it and are trusted", scene.all_trusted)
    story.until("a session is granted", scene.open)


def dead_gateway(scene: Scene[Observer], story: Story) -> None:
    """All processes of the gateway end, then stop: flows end by themselves, everything comes back by itself."""
    _strike(scene, story, signal.SIGKILL, "killed")
    _strike(scene, story, signal.SIGSTOP, "stopped")


def _strike(scene: Scene[Observer], story: Story, how: signal.Signals, verb: str) -> None:
    starts, pids = scene.gateway_starts(), scene.pids(GATEWAY).values()

    def strike() -> None:
        for pid in pids:
            os.kill(pid, how)

    what = f"all {len(pids)} processes of the gateway {verb}"
    cut_after(scene, story, what, scene.see.pace.silence_s, strike)
    story.until("the monitor has brought the gateway back", lambda: scene.gateway_starts() > starts, 30)
    story.until("everybody has attested anew", scene.all_trusted)
    story.until("traffic returns: a session is granted", scene.open)
