"""Steps 2 and 6 to 8 with virtual machines: foreign programs, altered images, machines that hang, pulled plugs."""

import os
import signal
from pathlib import Path

from gateway.cli.demo.observe_vm import VmObserver
from gateway.cli.demo.scene import Scene
from gateway.cli.demo.steps_cut import cut_after, renewed
from gateway.cli.demo.steps_trust import nothing_arrives
from gateway.cli.demo.story import Story
from gateway.cli.vm import alter_image, run_foreign_program
from vmhost.errors import HostError
from vmhost.image.references import PCRS, Image, pcr_values
from vmhost.lab.tamper import Alteration
from vmhost.lab.vms import GUEST, VmPaths
from vmhost.monitor.client import ask
from vmhost.names import GATEWAY

FOREIGN_FILES = "grep -c foreign /sys/kernel/security/ima/ascii_runtime_measurements; true"
KILL_SERVICES = "systemctl kill --signal=KILL quotegated netd tpmd inspector"
RESTART_WITHIN_S = 300.0


def predicted(scene: Scene[VmObserver], story: Story) -> None:
    """What the machines booted is what their image files say."""
    if scene.spec.images is None:
        raise HostError("no-images", "the demonstration's lab has no images")
    for machine, image in ((scene.a, GUEST), (scene.b, GUEST), (GATEWAY, GATEWAY)):
        values = pcr_values(Image.load(scene.spec.images, image).values(), image)
        booted = {index: scene.see.pcr(machine, index) for index in PCRS}
        expected = {index: values[index].hex() for index in PCRS}
        story.check(
            booted == expected, f"{machine}: PCR {','.join(map(str, PCRS))} as computed from {image}.efi"
        )


def tampering(scene: Scene[VmObserver], story: Story) -> None:
    """A runs a program that its image does not hold: cut, restarted by itself as a machine, trusted anew."""
    story.check(
        scene.see.ask(scene.a, FOREIGN_FILES) == "0", f"{scene.a}'s kernel has measured no foreign file"
    )
    resets, qemu = scene.peer(scene.a)["reset_count"], scene.pids(scene.a)["qemu"]
    bound = scene.see.pace.bad_answer_s
    cut_after(scene, story, "a foreign program", bound, lambda: run_foreign_program(scene.lab, scene.a))
    reasons = [one["reason"] for one in scene.events("attestation-failed") if one["attributable"]]
    story.check(reasons[:1] == ["unknown-file"], f"the reason is on record: {', '.join(reasons)}")
    _returns(scene, story, resets, qemu)
    story.check(scene.see.ask(scene.a, FOREIGN_FILES) == "0", "its kernel has measured no foreign file since")
    story.until("a new session is granted", scene.open)


def hanging(scene: Scene[VmObserver], story: Story) -> None:
    """The whole machine of A stands still: its flow ends; the gateway has it restarted once it was silent too long."""
    resets, qemu = scene.peer(scene.a)["reset_count"], scene.pids(scene.a)["qemu"]
    bound = scene.see.pace.silence_s
    cut_after(scene, story, "a machine that hangs", bound, lambda: os.kill(qemu, signal.SIGSTOP))
    _returns(scene, story, resets, qemu)


def _returns(scene: Scene[VmObserver], story: Story, resets: int, qemu: int) -> None:
    story.until(f"{scene.a} was restarted and is trusted anew", lambda: renewed(scene, resets))
    story.check(scene.pids(scene.a)["qemu"] != qemu, "it is another QEMU: the machine itself was restarted")


def quarantine(scene: Scene[VmObserver], story: Story) -> None:
    """While A's initrd is altered each boot of it fails; it ends in quarantine, and returns with its own image."""
    pace, disk = scene.see.pace, VmPaths(scene.lab, scene.a).disk
    good, seen = disk.read_bytes(), len(scene.events("attestation-failed"))
    alter_image(scene.lab, scene.a, Alteration.INITRD)
    story.tell(f"    the initrd on {scene.a}'s boot disk is altered; the operator restarts it")
    scene.api.post(f"/v1/peers/{scene.a}/restart")
    story.until(f"{scene.a} is quarantined", lambda: scene.state(scene.a) == "quarantined", 3 * pace.return_s)
    why = scene.events("attestation-failed")[seen:]
    story.check(
        {one["reason"] for one in why} == {"reference-mismatch"},
        f"{len(why)} boots failed: {why[0]['detail']}",
    )
    story.check(not scene.open(), "its request for a session is refused")
    _put_back(disk, good)
    scene.api.post(f"/v1/peers/{scene.a}/release")
    story.until(
        f"its image put back and released by the operator, {scene.a} is trusted again",
        lambda: scene.state(scene.a) == "trusted",
    )


def bad_gateway(scene: Scene[VmObserver], story: Story) -> None:
    """A gateway whose image was altered gets its state from nobody: it stays out, and nothing passes."""
    disk, before = VmPaths(scene.lab, GATEWAY).disk, scene.api.get("/v1/status")["audit"]["sequence"]
    good = disk.read_bytes()
    alter_image(scene.lab, GATEWAY, Alteration.COMMAND_LINE)
    try:
        ask(scene.lab, "restart_gateway", RESTART_WITHIN_S, reset_tpm=True)
        why = ""
    except HostError as error:
        why = error.message
    story.check("not-approved" in why, f"with an altered command line it does not come up: {_reason(why)}")
    nothing_arrives(scene, story)
    _put_back(disk, good)
    story.until("its image put back, everybody has attested it and is trusted", scene.all_trusted)
    status = scene.api.get("/v1/status")
    story.check(
        status["audit"]["sequence"] > before and status["authority"] == "valid",
        "its TPM gave out the key of its state: record and authority are there",
    )
    story.until("a session is granted", scene.open)


def _put_back(disk: Path, good: bytes) -> None:
    """Write a disk anew in one step: a start that is under way reads the one or the other."""
    new = disk.with_suffix(".new")
    new.write_bytes(good)
    new.replace(disk)


def _reason(why: str) -> str:
    """Quote what the gateway's console said last."""
    return why.partition("its console last said: ")[2].partition("; see ")[0]


def dead_gateway(scene: Scene[VmObserver], story: Story) -> None:
    """The gateway's services are killed, its machine loses power, then hangs: flows end, all comes back by itself."""
    bound = scene.see.pace.silence_s
    cut_after(
        scene,
        story,
        "all services in the gateway killed",
        bound,
        lambda: scene.see.ask(GATEWAY, KILL_SERVICES),
    )
    _recovers(scene, story)
    _machine_ends(scene, story, signal.SIGKILL, "killed")
    _machine_ends(scene, story, signal.SIGSTOP, "stopped")


def _machine_ends(scene: Scene[VmObserver], story: Story, how: signal.Signals, verb: str) -> None:
    pace, starts, qemu = scene.see.pace, scene.gateway_starts(), scene.pids(GATEWAY)["qemu"]
    cut_after(scene, story, f"the gateway's machine {verb}", pace.silence_s, lambda: os.kill(qemu, how))
    story.until("the monitor has brought the gateway back", lambda: scene.gateway_starts() > starts)
    _recovers(scene, story)


def _recovers(scene: Scene[VmObserver], story: Story) -> None:
    story.until("everybody has attested anew", scene.all_trusted)
    story.until("traffic returns: a session is granted", scene.open)
