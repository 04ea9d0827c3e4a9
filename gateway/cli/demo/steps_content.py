"""Step 5: what an inspected connection carries is looked at, both ways."""

import hashlib
import string

from filters.reason import DropReason
from gateway.cli.demo.scene import Scene
from gateway.cli.demo.story import Story

# in two pieces: this source is no test file
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
ASK = b"GET /report HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"


def content(scene: Scene, story: Story) -> None:
    """The same exchange passes without, and ends with, a piece of malware on its way in or a secret on its way out."""
    body = scene.content[: 1 << 19]
    story.until("an inspector is there", lambda: scene.api.get("/v1/status")["inspectors"] > 0)
    _fetch(scene, story, _answer(body), ASK, "a clean answer")
    found = _stopped(
        scene, story, _answer(body[:5000] + EICAR + body[5000:]), ASK, EICAR, "malware in an answer"
    )
    story.check(found == (DropReason.MALWARE, "malware.eicar"), f"the reason is on record: {' '.join(found)}")
    secret = _token(scene)
    found = _stopped(
        scene, story, _answer(b"ok"), _post(b"a note: " + secret), secret, "a fresh secret in a request"
    )
    story.check(
        found == (DropReason.DATA_LEAK, "secrets.github-token"), f"the reason is on record: {' '.join(found)}"
    )
    story.check(
        secret.decode() not in str(scene.events("content-found")), "the record shows the secret's ends alone"
    )
    _fetch(
        scene,
        story,
        _answer(b"ok"),
        _post(b"a note: " + secret[:-1]),
        "the same request without its last byte",
    )


def _fetch(scene: Scene, story: Story, answer: bytes, ask: bytes, what: str) -> None:
    said, _ = _exchange(scene, answer, ask)
    whole = f"{len(answer)} {hashlib.sha256(answer).hexdigest()}"
    story.check(said == f"closed {whole}", f"{what} passes whole: {len(answer)} bytes, SHA-256 equal")


def _stopped(scene: Scene, story: Story, answer: bytes, ask: bytes, bad: bytes, what: str) -> tuple[str, str]:
    before = len(scene.events("content-found"))
    said, arrived = _exchange(scene, answer, ask)
    story.check(said.startswith("reset"), f"{what}: the connection is reset")
    story.check(bad[-12:] not in arrived, "its end arrived nowhere, as captures in both peers show")
    story.until("it is recorded", lambda: len(scene.events("content-found")) > before)
    event = scene.events("content-found")[-1]
    return event["reason"], event["check"]


def _exchange(scene: Scene, answer: bytes, ask: bytes) -> tuple[str, bytes]:
    """Let B answer A once; return what A said of it, and the bytes that came out of the gateway."""
    answer_file, ask_file = scene.see.directory / "answer", scene.see.directory / "ask"
    answer_file.write_bytes(answer)
    ask_file.write_bytes(ask)
    offer = scene.see.spawn(scene.b, "offer", scene.inspected_port, answer_file)
    assert offer.stdout is not None  # noqa: S101 - it is a pipe
    offer.stdout.readline()
    captures = [
        scene.see.capture(scene.a, f"tcp src port {scene.inspected_port}"),
        scene.see.capture(scene.b, f"tcp dst port {scene.inspected_port}"),
    ]
    said = scene.see.run(scene.a, "fetch", scene.ip(scene.b), scene.inspected_port, ask_file)
    offer.kill()
    offer.wait(5)
    return said, b"".join(packet for capture in captures for _, packet in capture.stop())


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)


def _post(body: bytes) -> bytes:
    return b"POST /note HTTP/1.1\r\nHost: b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        len(body),
        body,
    )


def _token(scene: Scene) -> bytes:
    letters = string.ascii_letters + string.digits
    digest = hashlib.sha512(scene.content[:64]).digest()
    return b"ghp_" + "".join(letters[one % len(letters)] for one in digest[:36]).encode()
