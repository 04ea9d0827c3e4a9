"""Mail by real clients to real servers, and TLS with certificates of a CA of our own."""

import email
import email.policy
import filecmp
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.filters.inspection.drive import EICAR
from tests.lab.ordinary.nginx import start_tls
from tests.lab.ordinary.site import RANDOM
from tests.lab.ordinary.world import PYTHON, STRICT, World, digest, need, token

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(300)]
SEND = """
import smtplib, sys
from email.message import EmailMessage
from pathlib import Path
host, port, *files = sys.argv[1:]
message = EmailMessage()
message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "Grüße über alles, so lang daß der Betreff umbrochen wird"
message.set_content("Ein Text\\n.\\n..zwei Punkte\\nGrüße\\n" * 20)
message.add_alternative("<p>Ein <b>Text</b></p>", subtype="html")
for file in map(Path, files):
    message.add_attachment(file.read_bytes(), maintype="application", subtype="octet-stream", filename=file.name)
with smtplib.SMTP(host, int(port), timeout=20) as server:
    server.send_message(message)
    server.send_message(message, to_addrs=["c@example.org", "d@example.org"])
    print(server.noop()[0])
"""


class Box:
    """A Maildir."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: set[str] = set()

    def new(self, count: int = 1) -> list[email.message.EmailMessage]:
        """The messages that came since the last look."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            files = [one for one in self.folder.rglob("new/*") if one.name not in self._seen]
            if len(files) >= count:
                break
            time.sleep(0.05)
        self._seen |= {one.name for one in files}
        assert len(files) == count
        return [email.message_from_bytes(one.read_bytes(), policy=email.policy.default) for one in files]  # type: ignore[misc]


def attachments(message: email.message.EmailMessage) -> dict[str, str]:
    return {str(one.get_filename()): digest(one.get_content()) for one in message.iter_attachments()}


@pytest.fixture(scope="module")
def aiosmtpd(world: World) -> Box:
    need("aiosmtpd")
    room, port = world.room("aiosmtpd"), STRICT["smtp"]
    argv = [
        PYTHON,
        "-m",
        "aiosmtpd",
        "-n",
        "-s",
        0,
        "-l",
        f"0.0.0.0:{port}",
        "-c",
        "aiosmtpd.handlers.Mailbox",
        room / "mail",
    ]
    world.serve(argv, port)
    return Box(room / "mail")


@pytest.fixture(scope="module")
def opensmtpd(world: World) -> tuple[Box, int]:
    need("smtpd")
    room, port = world.room("opensmtpd"), world.port()
    (room / "conf").write_text(
        f'listen on 0.0.0.0 port {port} hostname db.test\ntable users {{ b = "65534:65534:{room}", d = "65534:65534:{room}", c = "65534:65534:{room}" }}\n'
        f'action "keep" maildir "{room}/mail" userbase <users>\nmatch from any for any action "keep"\n'
    )
    (room / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    # its spool and control socket have places of their own, so it gets those places for itself
    own = (
        # nobody answers its questions who a client is, and at once
        f"mount --make-rprivate / && mount --bind {room}/resolv.conf /etc/resolv.conf && mount -t tmpfs -o mode=711 none /var/spool && mkdir -p -m 711 /var/spool/smtpd && "
        f"mount -t tmpfs -o mode=755 none /run && mkdir /run/sshd && exec /usr/sbin/smtpd -d -f {room}/conf"
    )
    world.serve(["unshare", "-m", "sh", "-c", own], port)
    return Box(room / "mail"), port


@pytest.mark.usefixtures("unharmed")
class TestMail:
    def test_smtplib_with_attachments(self, world: World, site: Path, aiosmtpd: Box) -> None:
        files = [
            site / one for one in (RANDOM, "picture.png", "sources.zip", "line.txt", "umlaut äöü 100%.txt")
        ]
        assert world.run([PYTHON, "-c", SEND, world.ip(), STRICT["smtp"], *files]).stdout == b"250\n"
        for message in aiosmtpd.new(2):
            assert attachments(message) == {one.name: digest(one.read_bytes()) for one in files}
            assert "Grüße über alles" in message["Subject"]
            body = message.get_body(("plain",))
            assert body
            assert "\n.\n..zwei Punkte\n" in body.get_content()

    def test_swaks(self, world: World, site: Path, aiosmtpd: Box) -> None:
        need("swaks")
        argv = ["swaks", "-n", "-S", "2", "--server", world.ip(), "-p", STRICT["smtp"], "-f", "a@example.org", "-t", "b@example.org",
                "--attach", f"@{site / 'picture.png'}"]  # fmt: skip
        for more in ([], ["--pipeline"], ["--protocol", "SMTP"]):
            world.run([*argv, *more])
        for message in aiosmtpd.new(3):
            assert list(attachments(message).values()) == [digest((site / "picture.png").read_bytes())]

    def test_curl_and_opensmtpd(self, world: World, site: Path, opensmtpd: tuple[Box, int]) -> None:
        box, port = opensmtpd
        assert world.run([PYTHON, "-c", SEND, world.ip(), port, site / "picture.png"]).stdout == b"250\n"
        assert {one for message in box.new(3) for one in attachments(message)} == {"picture.png"}
        mail = [
            "curl",
            "-sS",
            "-m",
            "20",
            f"smtp://{world.ip()}:{port}",
            "--mail-from",
            "a@example.org",
            "--mail-rcpt",
            "b@example.org",
        ]
        world.run(
            [
                *mail,
                "-H",
                "Subject: by curl",
                "-F",
                "=words",
                "-F",
                f"file=@{site / 'picture.png'};encoder=base64",
            ]
        )
        (message,) = box.new()
        assert list(attachments(message).values()) == [digest((site / "picture.png").read_bytes())]


class TestStoppedMail:
    """The same programs with what must not pass."""

    @pytest.mark.parametrize(("content", "checks"), [
        (EICAR, {"malware.eicar", "yara.eicar_test_file"}), (b"some words " + token() + b"\n", {"secrets.github-token"}),
    ])  # fmt: skip
    def test_attachments_in_base64(
        self, world: World, aiosmtpd: Box, content: bytes, checks: set[str]
    ) -> None:
        file = world.folder / "bad.bin"
        file.write_bytes(content)
        found = world.stopped([PYTHON, "-c", SEND, world.ip(), STRICT["smtp"], file], status=1)
        assert found
        assert found <= checks
        aiosmtpd.new(0)


@pytest.fixture(scope="module")
def tls(world: World) -> Path:
    need("nginx", "openssl")
    return start_tls(world, STRICT["tls"], world.port())


@pytest.mark.usefixtures("unharmed")
class TestTls:
    @pytest.mark.parametrize("options", [
        ("--tlsv1.2", "--tls-max", "1.2"), ("--tlsv1.3",), ("--http2",), ("--http1.1", "--tlsv1.2", "--tls-max", "1.2", "--ciphers", "ECDHE"),
    ])  # fmt: skip
    def test_curl(self, world: World, site: Path, tls: Path, options: Sequence[str]) -> None:
        got = world.folder / "got-tls"
        curl = ["curl", "-sS", "--fail", "-m", "20", "--cacert", tls / "ca.pem", *options]
        world.run([*curl, "-o", got, f"https://{world.ip()}:{STRICT['tls']}/{RANDOM}"])
        assert filecmp.cmp(got, site / RANDOM, shallow=False)
        url = f"https://db.test:{STRICT['tls']}/uploads/{len(options)}"
        world.run([*curl, "--resolve", f"db.test:{STRICT['tls']}:{world.ip()}", "-T", site / RANDOM, url])
        assert filecmp.cmp(tls / "uploads" / str(len(options)), site / RANDOM, shallow=False)

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_openssl(self, world: World, site: Path, tls: Path, version: str) -> None:
        argv = ["openssl", "s_client", "-quiet", "-connect", f"{world.ip()}:{STRICT['tls']}", "-CAfile", tls / "ca.pem",
                version, "-verify_return_error", "-servername", "db.test"]  # fmt: skip
        said = world.run(argv, data=b"GET /line.txt HTTP/1.0\r\n\r\n").stdout
        assert said.endswith(b"\r\n\r\none line\n")

    def test_sessions_are_resumed(self, world: World, tls: Path) -> None:
        argv = [
            "openssl",
            "s_client",
            "-connect",
            f"{world.ip()}:{STRICT['tls']}",
            "-CAfile",
            tls / "ca.pem",
            "-tls1_2",
            "-reconnect",
        ]
        assert world.run(argv).stdout.count(b"Reused, TLSv1.2") == 5

    def test_a_wrong_certificate_is_the_clients_to_refuse(self, world: World, tls: Path) -> None:
        done = world.run(["curl", "-sS", "-m", "20", f"https://{world.ip()}:{STRICT['tls']}/"], status=60)
        assert b"certificate" in done.stderr

    def test_openssl_as_the_server(self, world: World, site: Path, tls: Path) -> None:
        port = world.port()
        server = [
            "openssl",
            "s_server",
            "-accept",
            port,
            "-key",
            tls / "server.key",
            "-cert",
            tls / "server.pem",
            "-WWW",
        ]
        world.serve(["env", "-C", site, *server], port)
        for curve in ("X25519", "P-256:P-384"):
            said = world.run(
                [
                    "curl",
                    "-sS",
                    "-m",
                    "20",
                    "--cacert",
                    tls / "ca.pem",
                    "--curves",
                    curve,
                    f"https://{world.ip()}:{port}/{RANDOM}",
                ]
            )
            assert said.stdout == (site / RANDOM).read_bytes()


def test_plain_http_where_tls_is_demanded(world: World, tls: Path) -> None:
    get = ["curl", "-sS", "-m", "20", f"http://{world.ip()}:{STRICT['tls']}/"]
    assert world.stopped(get, status=56) == {"protocol"}
