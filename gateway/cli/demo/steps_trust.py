"""Steps 1 to 4: authority, mutual attestation, sessions, refusals."""

from typing import Any

from filters.reason import DropReason
from gateway.cli.demo.capture import Capture
from gateway.cli.demo.scene import Scene
from gateway.cli.demo.stage import Stage
from gateway.cli.demo.story import Story

TCP_SYN, TCP_ACK = 0x02, 0x10


def authority(scene: Scene[Stage], story: Story) -> None:
    """Without an administrator's authority nothing passes; with it, still nothing before a session."""
    story.until(f"all {len(scene.spec.peers)} peers are trusted", scene.all_trusted)
    story.check(
        scene.api.get("/v1/authority")["state"] == "absent", "no administrator's authority is in force"
    )
    _nothing_passes(scene, story, DropReason.COMMUNICATION_DISABLED)
    scene.grant_authority()
    story.check(scene.api.get("/v1/authority")["state"] == "valid", "an administrator has granted authority")
    story.check(len(scene.see.kernel_set("authority")) == 1, "the kernel has the authority, with its timeout")
    _nothing_passes(scene, story, DropReason.NO_SESSION)


def _nothing_passes(scene: Scene[Stage], story: Story, reason: DropReason) -> None:
    before = scene.api.get("/v1/status")["drops"].get(reason, 0)
    nothing_arrives(scene, story)
    dropped = scene.api.get("/v1/status")["drops"].get(reason, 0) - before
    story.check(dropped > 0, f"the kernel counted {dropped} packets as {reason}")
    answer = scene.explain(scene.a, scene.b, scene.service)
    story.check(
        answer["reason"] == reason and bool(answer["advice"]),
        f"explain says {answer['reason']}: {answer['advice']}",
    )


def nothing_arrives(scene: Scene[Any], story: Story) -> None:
    """A tries to connect to B, and B sees nothing of it."""
    capture = scene.see.capture(scene.b, f"src host {scene.ip(scene.a)}")
    said = scene.see.run(scene.a, "call", scene.ip(scene.b), scene.request_port)
    packets = capture.stop()
    story.check(
        said.startswith("failed") and not packets,
        f"a connection of {scene.a} fails, {scene.b} sees 0 packets",
    )


def mutual_attestation(scene: Scene[Stage], story: Story) -> None:
    """Gateway and peers have proved themselves to each other; the TPMs themselves say the same."""
    handshakes = scene.events("handshake-completed")
    for name in (scene.a, scene.b):
        peer = scene.peer(name)
        done = next(one for one in handshakes if one["session_id"] == peer["session_id"])
        booted = scene.see.boot_pcrs(peer["pcrs"])
        own = {index: scene.see.pcr(name, int(index)) for index in booted}
        story.check(own == booted, f"gateway-{name}: PCR {','.join(own)} as {name}'s own TPM reports them")
        story.tell(
            f"    session {peer['session_id']}, handshake {done['duration_ms']} ms, last quote {peer['last_quote_age_ms']} ms ago"
        )
        status = scene.see.agent(name, "status").text
        story.check(
            peer["session_id"] in status, f"{name}'s agent has verified the gateway in the same session"
        )
    addresses = {str(one["elem"]["val"]) for one in scene.see.kernel_set("trusted") if isinstance(one, dict)}
    story.check(
        {scene.ip(scene.a), scene.ip(scene.b)} <= addresses,
        "the kernel trusts both addresses, with a timeout",
    )


def session(scene: Scene[Stage], story: Story) -> None:
    """A asks, A and B prove themselves to this request, A is told; real content is delivered."""
    content = scene.content.describe()
    server = scene.see.start(scene.b, "receive", scene.request_port, 1 << 40)
    server.first_line()
    done = scene.see.agent(scene.a, "connect", scene.b, scene.service, content=scene.content)
    *answer, told = done.text.splitlines() or [""]
    story.check(done.status == 0 and told.startswith("delivered"), f"{scene.a} is told: {told}")
    story.check(f"sent {content.split()[0]} bytes" in told, "the number of bytes is right")
    same = server.output().endswith(content)
    story.check(
        same and answer == ["thanks"],
        f"{scene.b} holds the same content, SHA-256 equal; its answer came back",
    )
    granted = scene.events("session-granted")[-1]
    scene.granted.append(granted["session_id"])
    story.check(
        (granted["source"], granted["destination"]) == (scene.a, scene.b),
        f"session {granted['session_id']} is on record",
    )
    story.check(bool(scene.see.kernel_set("lease")), "the kernel has the lease for this flow")
    _incomplete(scene, story)


def _incomplete(scene: Scene[Stage], story: Story) -> None:
    server = scene.see.start(scene.b, "receive", scene.request_port, scene.cast.content.size // 2)
    server.first_line()
    done = scene.see.agent(scene.a, "connect", scene.b, scene.service, content=scene.content)
    server.output()
    told = done.text.splitlines()[-1]
    story.check(
        done.status == 4 and told.startswith("incomplete"),
        f"{scene.b} died halfway; {scene.a} is told: {told}",
    )


def refusals(scene: Scene[Stage], story: Story) -> None:
    """A service without a rule is refused with its reason; an allowed first packet is held, not lost."""
    service, demanded = f"tcp/{scene.cast.forbidden_port}", scene.cast.demand_port
    done = scene.see.agent(scene.a, "connect", scene.b, service)
    story.check(
        done.status == 3 and "no-rule" in done.text,
        f"{service} is refused: {done.text}",
    )
    answer = scene.explain(scene.a, scene.b, service)
    story.check(
        answer["reason"] == "no-rule",
        f"explain: {next(one['detail'] for one in answer['conditions'] if not one['holds'])}",
    )
    backwards = scene.see.run(scene.b, "call", scene.ip(scene.a), scene.request_port)
    story.check(backwards.startswith("failed"), f"{scene.b} can't open the other way: {backwards}")
    server = scene.see.start(scene.b, "sink", demanded)
    server.first_line()
    capture = scene.see.capture(scene.a, f"tcp dst port {demanded}")
    said = scene.see.run(scene.a, "call", scene.ip(scene.b), demanded)
    syns = _syns(capture)
    server.kill()
    story.check(
        said.startswith("connected"), f"an ordinary client's first packet opened the session: {said} ms"
    )
    story.check(syns == 1, f"{scene.a} sent {syns} SYN: the first packet was held, not lost")
    scene.granted.append(scene.events("session-granted")[-1]["session_id"])


def _syns(capture: Capture) -> int:
    count = 0
    for _, packet in capture.stop():
        header = (packet[0] & 15) * 4
        count += packet[header + 13] & (TCP_SYN | TCP_ACK) == TCP_SYN
    return count
