"""How a flow ends when its peer turns bad, falls silent, is stopped or answers late: measured at the receiver."""

import time
from collections.abc import Callable
from typing import Any

from gateway.cli.demo.bridge import mute_port, unmute_port
from gateway.cli.demo.scene import Scene
from gateway.cli.demo.stage import Program, Stage
from gateway.cli.demo.story import Story


def cut_after(
    scene: Scene[Any], story: Story, what: str, bound_s: float, cause: Callable[[], object]
) -> None:
    """Run an established flow, let `cause` happen, and measure at the receiver when the last packet came.

    It is measured from before the cause, or from the time that the cause returns: a program's start is none.
    """
    pace = scene.see.pace
    sink = scene.see.start(scene.b, "sink", scene.request_port)
    sink.first_line()
    chatter = scene.flow()
    capture = scene.see.capture(
        scene.b, f"tcp dst port {scene.request_port} and src host {scene.ip(scene.a)}"
    )
    time.sleep(pace.settle_s)
    at = time.time()
    begun = cause()
    at = begun if isinstance(begun, float) else at
    time.sleep(max(0.0, at + bound_s + 0.6 - time.time()))
    packets = capture.stop()
    for program in (chatter, sink):
        program.kill()
    before = [when for when, _ in packets if when <= at]
    last = max((when - at for when, _ in packets), default=0.0)
    story.check(len(before) > pace.packets, f"{scene.b} received {len(before)} packets of the flow before it")
    story.check(
        last <= bound_s,
        f"{what}: the last packet came {max(0.0, last) * 1000:.0f} ms later, bound {bound_s * 1000:.0f} ms",
    )


def silence(scene: Scene[Any], story: Story) -> None:
    """Silence, a stopped process and good answers that come late end a flow when its lease runs out."""
    see, bound, port = scene.see, scene.see.pace.silence_s, scene.spec.machine(scene.a).port
    cut_after(
        scene, story, "a silent peer", bound, lambda: mute_port(scene.lab, port, scene.spec.control_port)
    )
    unmute_port(scene.lab)
    story.until(f"{scene.a} is heard and trusted again", lambda: scene.state(scene.a) == "trusted")

    cut_after(scene, story, "a stopped agent", bound, lambda: see.signal_agent(scene.a, "STOP"))
    see.signal_agent(scene.a, "CONT")
    story.until(f"{scene.a} goes on and is trusted again", lambda: scene.state(scene.a) == "trusted")
    _late(scene, story, bound)


def _late(scene: Scene[Any], story: Story, bound: float) -> None:
    see = scene.see
    words = ("delay", "eth0", scene.spec.control_port, see.agent_pid(scene.a), *see.pace.delay())
    delayers: list[Program] = []
    late_before = scene.peer(scene.a)["late_answers"]

    def delay() -> float:
        delayers.append(see.start(scene.a, *words))
        delayers[0].first_line()
        return time.time()

    try:
        cut_after(scene, story, "good answers delivered late", bound, delay)
        story.until(
            "answers were good and too late: none of them counted, none was punished",
            lambda: scene.peer(scene.a)["late_answers"] > late_before,
        )
    finally:
        for one in delayers:
            one.kill()
        see.signal_agent(scene.a, "CONT")
    story.until(f"{scene.a} answers in time and is trusted again", lambda: scene.state(scene.a) == "trusted")


def renewed(scene: Scene[Any], resets: int) -> bool:
    """Tell whether A was restarted since it had this reset count, and is trusted again."""
    peer = scene.peer(scene.a)
    return bool(peer["state"] == "trusted" and peer["reset_count"] > resets and peer["restarts"] >= 1)


def record(scene: Scene[Stage], story: Story) -> None:
    """Everything the clients saw is on record, and the record is intact."""
    recorded = {one["session_id"] for one in scene.events("session-granted")}
    missing = [one for one in scene.granted if one not in recorded]
    story.check(not missing, f"all {len(scene.granted)} sessions that clients were granted are on record")
    heads = scene.see.heads()
    answer = scene.api.post("/v1/audit/verify", known_heads=heads)
    story.check(
        answer["intact"],
        f"{answer['records']} records verify: chain, TPM signatures, counter, {len(heads)} peers as witnesses",
    )
