"""Run the demonstration from beginning to end, and leave nothing behind."""

import argparse
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gateway.cli.client import ApiClient, api_socket
from gateway.cli.demo import (
    observe,
    observe_vm,
    steps_content,
    steps_cut,
    steps_failure,
    steps_trust,
    steps_vm,
)
from gateway.cli.demo.drawing import SMALL_SIZES, Cast, draw, pick_seed
from gateway.cli.demo.observe import Observer
from gateway.cli.demo.observe_vm import VmObserver
from gateway.cli.demo.scene import Scene
from gateway.cli.demo.stage import Pace, Stage
from gateway.cli.demo.story import StepFailed, Story
from gateway.cli.exits import EXIT_FOUND
from gateway.cli.output import complain, say
from vmhost.lab.defaults import as_vms
from vmhost.lab.setup import bring_up
from vmhost.lab.teardown import tear_down
from vmhost.names import Lab
from vmhost.spec import LabSpec

INSIST_S = 0.5
Step = Callable[[Scene[Any], Story], None]


@dataclass(frozen=True, slots=True)
class Play:
    """What is played: the lab, who does what in it, its stage, and the steps that are its own."""

    spec: LabSpec
    cast: Cast
    pace: Pace
    stage: Callable[[], Stage]
    attestation: tuple[Step, ...]
    failures: tuple[Step, ...]
    bad_gateway: Step
    dead_gateway: Step


def namespaces(lab: Lab, seed: int) -> Play:
    """Play with namespaces."""
    spec, cast = draw(lab, seed)
    pace = observe.pace(spec.beacon_interval_ms / 1000)
    return Play(
        spec,
        cast,
        pace,
        lambda: Observer(lab, pace),
        (steps_trust.mutual_attestation,),
        (steps_failure.tampering, steps_cut.silence, steps_failure.quarantine),
        steps_failure.bad_gateway,
        steps_failure.dead_gateway,
    )


def virtual_machines(lab: Lab, seed: int, arguments: argparse.Namespace) -> Play:
    """Play with virtual machines: gateway, A and B. A transfer must not keep an emulated processor from answering."""
    drawn, cast = draw(lab, seed, bystander=False, sizes=SMALL_SIZES)
    spec = as_vms(drawn, arguments.images.resolve())
    pace = observe_vm.pace(spec.beacon_interval_ms / 1000)
    return Play(
        spec,
        cast,
        pace,
        lambda: VmObserver(spec, pace),
        (steps_trust.mutual_attestation, steps_vm.predicted),
        (steps_vm.tampering, steps_cut.silence, steps_vm.hanging, steps_vm.quarantine),
        steps_vm.bad_gateway,
        steps_vm.dead_gateway,
    )


def demo(arguments: argparse.Namespace) -> int:
    """Run all steps; exit 4 when one does not come out as it should."""
    seed = pick_seed(arguments.seed)
    lab = Lab(f"demo{os.getpid() % 100000}")
    play = virtual_machines(lab, seed, arguments) if arguments.vm else namespaces(lab, seed)
    cast, story = play.cast, Story(play.pace.return_s)
    # When this process ends, however it ends, the pipe closes and the lab takes itself down.
    owner, ours = os.pipe()
    onlooker = f", {cast.c} looks on" if cast.c else "; they and the gateway are virtual machines"
    say(f"Quotegate demonstration, seed {seed}: {cast.a} asks for services of {cast.b}{onlooker}")
    see: Stage | None = None
    try:
        with _interruptible():
            bring_up(play.spec, owner)
            interval = play.spec.beacon_interval_ms
            story.tell(
                f"gateway {play.spec.gateway.ip} and {len(play.spec.peers)} peers are up, T = {interval} ms"
            )
            see = play.stage()
            _run(play, Scene(play.spec, cast, ApiClient(api_socket(lab.name)), see, story), story)
    except StepFailed as error:
        vm = " --vm" if arguments.vm else ""
        complain(f"\n    {error.message}\n    repeat with: quotegate lab demo{vm} --seed {seed}")
        _show_logs(lab)
        return EXIT_FOUND
    finally:
        if see is not None:
            see.close()
        tear_down(lab)
        os.close(ours)
        os.close(owner)
    say(
        f"\nAll eight steps are true: {story.checks} checks in {time.monotonic() - story.started:.0f} s; nothing is left behind."
    )
    return 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let signals interrupt; what we were started to ignore stays ignored."""
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    previous = {
        one: signal.signal(one, _interrupt) for one in wanted if signal.getsignal(one) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(_signum: int, _frame: object) -> None:
    """Interrupt, and again while nothing comes of it: raised inside a finalizer an exception is lost."""
    signal.setitimer(signal.ITIMER_REAL, INSIST_S)
    raise KeyboardInterrupt


def _run(play: Play, scene: Scene[Any], story: Story) -> None:
    steps: tuple[tuple[str, tuple[Step, ...]], ...] = (
        ("no authority, no traffic; with it, still nothing before a session", (steps_trust.authority,)),
        ("mutual attestation", play.attestation),
        (
            "a session, asked for and proved; content delivered, and a delivery that fails",
            (steps_trust.session,),
        ),
        ("refusals with reasons; the first packet is held", (steps_trust.refusals,)),
        (
            "content: malware and a secret are stopped, the same bytes without them pass",
            (steps_content.content,),
        ),
        (
            "a peer turns bad, falls silent, is stopped, answers late; restart and quarantine",
            play.failures,
        ),
        ("a gateway turns bad", (play.bad_gateway,)),
        ("the gateway dies, then hangs; the record", (play.dead_gateway, steps_cut.record)),
    )
    for number, (title, parts) in enumerate(steps, 1):
        with story.step(str(number), title):
            for part in parts:
                part(scene, story)


def _show_logs(lab: Lab) -> None:
    for log in sorted((lab.run_dir / "log").glob("*.log")):
        text = log.read_text(errors="replace").strip()
        if text and "Data client disconnected" not in text:
            complain(f"--- {log.name}\n{text[-2000:]}")
