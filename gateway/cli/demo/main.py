"""Run the demonstration from beginning to end, and leave nothing behind."""

import argparse
import os
import signal
import time

from gateway.cli.client import ApiClient, api_socket
from gateway.cli.demo import steps_content, steps_failure, steps_trust
from gateway.cli.demo.observe import Observer
from gateway.cli.demo.scene import Scene, draw, pick_seed
from gateway.cli.demo.story import StepFailed, Story
from gateway.cli.output import complain, say
from vmhost.lab.setup import bring_up
from vmhost.lab.teardown import tear_down
from vmhost.names import Lab

EXIT_FAILED = 4
INSIST_S = 0.5


def demo(arguments: argparse.Namespace) -> int:
    """Run all steps; exit 4 when one does not come out as it should."""
    seed = pick_seed(arguments.seed)
    lab = Lab(f"demo{os.getpid() % 100000}")
    spec, drawn = draw(lab, seed)
    # When this process ends, however it ends, the pipe closes and the lab takes itself down.
    owner, ours = os.pipe()
    story = Story()
    say(
        f"Quotegate demonstration, seed {seed}: {drawn['a']} asks for services of {drawn['b']}, {drawn['c']} looks on"
    )
    wanted = (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGALRM,
    )  # but what we were started to ignore stays ignored
    previous = {
        one: signal.signal(one, _interrupt) for one in wanted if signal.getsignal(one) != signal.SIG_IGN
    }
    observer: Observer | None = None
    try:
        bring_up(spec, owner)
        story.tell(f"gateway {spec.gateway.ip} and three peers are up, T = {spec.beacon_interval_ms} ms")
        observer = Observer(lab)
        scene = Scene(
            lab=lab,
            spec=spec,
            api=ApiClient(api_socket(lab.name)),
            see=observer,
            story=story,
            granted=[],
            **drawn,
        )
        _run(scene, story)
    except StepFailed as error:
        complain(f"\n    {error.message}\n    repeat with: quotegate lab demo --seed {seed}")
        _show_logs(lab)
        return EXIT_FAILED
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)
        if observer is not None:
            observer.close()
        tear_down(lab)
        os.close(ours)
        os.close(owner)
    say(
        f"\nAll eight steps are true: {story.checks} checks in {time.monotonic() - story.started:.0f} s; nothing is left behind."
    )
    return 0


def _interrupt(_signum: int, _frame: object) -> None:
    """Interrupt, and again while nothing comes of it: raised inside a finalizer an exception is lost."""
    signal.setitimer(signal.ITIMER_REAL, INSIST_S)
    raise KeyboardInterrupt


def _run(scene: Scene, story: Story) -> None:
    with story.step("1", "no authority, no traffic; with it, still nothing before a session"):
        steps_trust.authority(scene, story)
    with story.step("2", "mutual attestation"):
        steps_trust.mutual_attestation(scene, story)
    with story.step("3", "a session, asked for and proved; content delivered, and a delivery that fails"):
        steps_trust.session(scene, story)
    with story.step("4", "refusals with reasons; the first packet is held"):
        steps_trust.refusals(scene, story)
    with story.step("5", "content: malware and a secret are stopped, the same bytes without them pass"):
        steps_content.content(scene, story)
    with story.step("6", "a peer turns bad, falls silent, is stopped, answers late; restart and quarantine"):
        steps_failure.tampering(scene, story)
        steps_failure.silence(scene, story)
        steps_failure.quarantine(scene, story)
    with story.step("7", "a gateway turns bad"):
        steps_failure.bad_gateway(scene, story)
    with story.step("8", "the gateway dies, then hangs; the record"):
        steps_failure.dead_gateway(scene, story, signal.SIGKILL)
        steps_failure.dead_gateway(scene, story, signal.SIGSTOP)
        steps_failure.record(scene, story)


def _show_logs(lab: Lab) -> None:
    for log in sorted((lab.run_dir / "log").glob("*.log")):
        text = log.read_text(errors="replace").strip()
        if text and "Data client disconnected" not in text:
            complain(f"--- {log.name}\n{text[-2000:]}")
