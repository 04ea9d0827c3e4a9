"""Step 5: what an inspected connection carries is looked at, both ways."""

import hashlib
import string

from filters.reason import DropReason
from gateway.cli.demo.capture import WHOLE, payload
from gateway.cli.demo.pieces import Content, Drawn, Given
from gateway.cli.demo.scene import Scene
from gateway.cli.demo.stage import Stage
from gateway.cli.demo.story import Story

# in two pieces: this source is no test file
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
ASK = Content.of(Given(b"GET /report HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"))
BODY, BEFORE, END = 1 << 19, 5000, 12


def content(scene: Scene[Stage], story: Story) -> None:
    """The same exchange passes without, and ends with, a piece of malware on its way in or a secret on its way out."""
    seed = scene.cast.content.seed
    before, after = Drawn(seed, BEFORE), Drawn(seed + 1, BODY - BEFORE)
    story.until("an inspector is there", lambda: scene.api.get("/v1/status")["inspectors"] > 0)
    _passes(scene, story, _answer(before, after), ASK, "a clean answer")
    found = _stopped(scene, story, _answer(before, Given(EICAR), after), ASK, EICAR, "malware in an answer")
    story.check(found == (DropReason.MALWARE, "malware.eicar"), f"the reason is on record: {' '.join(found)}")
    secret = _token(scene)
    note, ok = b"a note: " + secret, _answer(Given(b"ok"))
    found = _stopped(scene, story, ok, _post(note), secret, "a fresh secret in a request")
    story.check(
        found == (DropReason.DATA_LEAK, "secrets.github-token"), f"the reason is on record: {' '.join(found)}"
    )
    story.check(
        secret.decode() not in str(scene.events("content-found")), "the record shows the secret's ends alone"
    )
    arrived = _passes(scene, story, ok, _post(note[:-1]), "the same request without its last byte")
    story.check(secret[:-1] in arrived, "the captures in which nothing was found show that one")


def _passes(scene: Scene[Stage], story: Story, answer: Content, ask: Content, what: str) -> bytes:
    said, arrived = _exchange(scene, answer, ask)
    size = len(answer.data())
    story.check(said == f"closed {answer.describe()}", f"{what} passes whole: {size} bytes, SHA-256 equal")
    return arrived


def _stopped(
    scene: Scene[Stage], story: Story, answer: Content, ask: Content, bad: bytes, what: str
) -> tuple[str, str]:
    before = len(scene.events("content-found"))
    said, arrived = _exchange(scene, answer, ask)
    story.check(said.startswith("reset"), f"{what}: the connection is reset")
    story.check(bad[-END:] not in arrived, "its end arrived nowhere, as captures at both peers show")
    story.until("it is recorded", lambda: len(scene.events("content-found")) > before)
    event = scene.events("content-found")[-1]
    return event["reason"], event["check"]


def _exchange(scene: Scene[Stage], answer: Content, ask: Content) -> tuple[str, bytes]:
    """Let B answer A once; return what A said of it, and the bytes that came out of the gateway."""
    port = scene.cast.inspected_port
    offer = scene.see.start(scene.b, "offer", port, answer.word())
    offer.first_line()
    captures = [
        scene.see.capture(scene.a, f"tcp src port {port}", WHOLE),
        scene.see.capture(scene.b, f"tcp dst port {port}", WHOLE),
    ]
    said = scene.see.run(scene.a, "fetch", scene.ip(scene.b), port, ask.word())
    offer.kill()
    return said, b"".join(payload(packet) for capture in captures for _, packet in capture.stop())


def _answer(*body: Drawn | Given) -> Content:
    size = len(Content(body).data())
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size
    return Content.of(Given(head), *body)


def _post(body: bytes) -> Content:
    head = b"POST /note HTTP/1.1\r\nHost: b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return Content.of(Given(head % len(body) + body))


def _token(scene: Scene[Stage]) -> bytes:
    letters = string.ascii_letters + string.digits
    digest = hashlib.sha512(scene.content.word().encode()).digest()
    return b"ghp_" + "".join(letters[one % len(letters)] for one in digest[:36]).encode()
