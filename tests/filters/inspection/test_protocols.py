"""TLS, SSH, SMTP and DNS, spoken by their real implementations where there is one."""

import base64
import ssl
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from scapy.layers.dns import DNS, DNSQR, DNSRR

from filters.inspection.finding import Direction, Refusal
from filters.inspection.limits import DEFAULT_LIMITS
from filters.inspection.objects.archive import Budget
from filters.inspection.objects.mime import message_parts
from filters.inspection.protocols.dns import parse_message
from filters.inspection.protocols.dns_tunnel import TunnelWatch, looks_encoded
from filters.inspection.protocols.tls import ja4
from filters.reason import DropReason
from tests.filters.inspection.drive import DOWN, EICAR, SECRET, UP, Driven, exchange


def client_hello(name: str = "db.example", *, alpn: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    wrapped = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        wrapped.do_handshake()
    return outgoing.read()


def test_a_real_client_hello_is_read() -> None:
    driven = exchange([(UP, client_hello())])
    assert driven.findings == []
    (facts,) = [facts for kind, facts in driven.inspector.notes if kind == "tls-client"]
    assert (facts["version"], facts["sni"], facts["alpn"]) == ("1.3", "db.example", "h2,http/1.1")
    head, ciphers, extensions = facts["ja4"].split("_")
    assert head.startswith("t13d")
    assert head.endswith("h2")
    assert len(ciphers) == len(extensions) == 12


def test_tls_in_any_pieces_and_records() -> None:
    hello = client_hello()
    driven = exchange([(UP, hello[at : at + 1]) for at in range(len(hello))])
    assert driven.out[UP] == hello
    body = hello[5:]
    split = b"".join(hello[:3] + len(part).to_bytes(2, "big") + part for part in (body[:40], body[40:]))
    assert exchange([(UP, split)]).findings == []


def test_looks_once_at_all_records_of_a_piece() -> None:
    """Records of one byte, each a keyword's: one look at each would take seconds for a piece of 256 KiB."""
    driven, told = exchange([(UP, client_hello())]), list[bytes]()
    scan = driven.inspector.text

    def text(direction: Direction, channel: str, data: bytes) -> None:
        told.append(data)
        scan(direction, channel, data)

    driven.inspector.text = text  # type: ignore[method-assign]
    driven.feed(UP, b"\x17\x03\x03\0\1:" * 2000)
    driven.feed(
        UP,
        b"".join(b"\x17\x03\x03\0\1" + SECRET[at : at + 1] for at in range(len(SECRET)))
        + b"\x17\x03\x03\0\1 no record",
    )
    assert told == [b":" * 2000, SECRET + b" "]
    assert driven.checks[0] == "secrets.aws-access-key"
    assert "tls-record" in driven.checks


@pytest.mark.parametrize(
    ("alter", "check"),
    [
        (lambda hello: hello + b"GET / HTTP/1.1\r\n", "tls-record"),
        (lambda hello: hello[:5] + hello[5:6] + b"\0\0\x20" + hello[9:], "tls-hello"),
        (lambda hello: b"\x16\x03\x01\xff\xff" + hello[5:], "tls-record"),
    ],
)
def test_rejects_broken_tls(alter: object, check: str) -> None:
    assert exchange([(UP, alter(client_hello()))]).checks == [check]  # type: ignore[operator]


def test_a_secret_in_a_server_name_is_found() -> None:
    assert "secrets.aws-access-key" in exchange([(UP, client_hello(SECRET.decode() + ".example"))]).checks


def test_ssh_banners_are_read_and_the_rest_passes() -> None:
    driven = exchange(
        [
            (DOWN, b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
            (UP, b"SSH-2.0-OpenSSH_9.2\r\n"),
            (UP, b"\0\1\2" * 100),
        ]
    )
    assert driven.findings == []
    assert len(driven.out[UP]) == 321
    assert exchange([(UP, b"SSH-1.5-old\r\n")]).checks == ["ssh-banner"]


@pytest.mark.parametrize("name", ["libssh-0.7.2", "Cisco-1.25", "GitLab-SSHD", "babeld-8e5f", "-", "x-"])
def test_ssh_software_may_have_hyphens(name: str) -> None:
    driven = exchange(
        [(DOWN, f"SSH-2.0-{name}\r\n".encode()), (UP, f"SSH-1.99-{name} and more\r\n".encode())]
    )
    assert driven.findings == []
    assert [facts["software"] for kind, facts in driven.inspector.notes if kind == "ssh"] == [name, name]


@pytest.mark.parametrize(
    "line", [b"SSH-1.5-a-b\r\n", b"SSH-2.0-\r\n", b"SSH-2.0\r\n", b"SSH-2.0- x\r\n", b"SSH-2.0-a\xff\r\n"]
)
def test_refuses_banners_of_no_ssh_that_is_read(line: bytes) -> None:
    assert exchange([(UP, line)]).checks == ["ssh-banner"]


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_plain_text_behind_a_hello_or_a_banner_is_found(size: int) -> None:
    record = b"\x17\x03\x03" + (len(SECRET) + 5).to_bytes(2, "big") + b"key: " + SECRET
    half = b"\x17\x03\x03\0\x09" + SECRET[:9]
    for story in (
        client_hello() + record,
        client_hello() + b"\x15\x03\x03" + record[3:],
        b"SSH-2.0-x\r\n" + b"key: " + SECRET + b"\r\n",
        b"SSH-2.0-x\r\nA line\r\n" + SECRET + b" ",
    ):
        driven = exchange([(UP, story[at : at + size]) for at in range(0, len(story), size)])
        assert driven.checks[:1] == ["secrets.aws-access-key"]
        assert SECRET not in driven.out[UP]
    assert exchange([(UP, client_hello() + half)]).findings == []


def mail(attachment: bytes, **headers: str) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "hello", "a@h", "b@h"
    message.set_content("see the attachment\n.\n..dots\n")
    message.add_attachment(attachment, maintype="application", subtype="octet-stream", filename="a.bin")
    for name, value in headers.items():
        message[name] = value
    return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def smtp(message: bytes) -> list[tuple[Direction, bytes]]:
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    return [
        (DOWN, b"220 mail.h ESMTP\r\n"), (UP, b"EHLO c\r\n"), (DOWN, b"250-mail.h\r\n250-PIPELINING\r\n250 8BITMIME\r\n"),
        (UP, b"MAIL FROM:<a@h>\r\nRCPT TO:<b@h>\r\nDATA\r\n"), (DOWN, b"250 ok\r\n250 ok\r\n354 go\r\n"),
        (UP, stuffed + b".\r\n"), (DOWN, b"250 queued\r\n"), (UP, b"QUIT\r\n"), (DOWN, b"221 bye\r\n"),
    ]  # fmt: skip


def test_mail_passes_whole_and_attachments_are_judged() -> None:
    clean = exchange(smtp(mail(b"nothing" * 100)))
    assert clean.findings == []
    assert clean.out[UP] == clean.sent[UP]
    for bad in (EICAR, b"key " + SECRET):
        driven = exchange(smtp(mail(bad)))
        assert driven.cut is not None
        assert driven.cut.inside == "message/a.bin"
        assert not driven.out[UP].endswith(b".\r\n")


def test_a_greeting_answers_nothing_else() -> None:
    """What follows EHLO waits for its answer, also where the greeting comes after both."""
    driven = Driven().feed(UP, b"EHLO c\r\nSTARTTLS\r\n").feed(DOWN, b"220 h ESMTP\r\n")
    assert driven.out[UP] == b"EHLO c\r\n"
    assert driven.feed(DOWN, b"250 h\r\n").out[UP] == b"EHLO c\r\nSTARTTLS\r\n"


def test_what_follows_a_message_may_be_binary() -> None:
    story = smtp(mail(b"fine"))
    story[2] = DOWN, b"250-mail.h\r\n250 CHUNKING\r\n"
    story[5] = UP, story[5][1] + b"MAIL FROM:<a@h>\r\nBDAT 7 LAST\r\n\r\na\0b\r\n"
    assert exchange(story[:6]).findings == []


def test_mail_in_single_bytes() -> None:
    pieces = [(way, data[at : at + 1]) for way, data in smtp(mail(EICAR)) for at in range(len(data))]
    assert exchange(pieces).cut is not None
    pieces = [(way, data[at : at + 1]) for way, data in smtp(mail(b"fine")) for at in range(len(data))]
    assert exchange(pieces).findings == []


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        (b"\r\n\r\n", b"\r\n\n", "smtp-line-end"),
        (b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: base65", "mime-coding"),
        (
            b"Content-Transfer-Encoding: base64",
            b"Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit",
            "mime-field-twice",
        ),
        (b"--\r\n", b"\r\n", "mime-boundary"),
        (b"WDVPIVA", b"WDVPIV*", "mime-base64"),
    ],
)
def test_rejects_mail_that_programs_read_differently(old: bytes, new: bytes, check: str) -> None:
    message = mail(EICAR)
    assert old in message
    assert (
        check
        in exchange(
            smtp(message.replace(old, new, 1) if old != b"--\r\n" else message.replace(old, new))
        ).checks
    )


def test_rejects_smuggled_mail() -> None:
    """CVE-2023-51764: an end of data that only some servers take for one."""
    smuggled = mail(b"x") + b"\n.\r\nMAIL FROM:<evil@h>\r\n"
    assert "smtp-line-end" in exchange(smtp(smuggled)).checks


def test_rejects_plain_text_behind_starttls() -> None:
    story = [(DOWN, b"220 h ESMTP\r\n"), (UP, b"STARTTLS\r\nRSET\r\n"), (DOWN, b"220 go\r\n")]
    assert exchange(story).checks == ["smtp-starttls"]
    good = exchange(
        [(DOWN, b"220 h ESMTP\r\n"), (UP, b"STARTTLS\r\n"), (DOWN, b"220 go\r\n"), (UP, client_hello())]
    )
    assert good.findings == []


def test_nested_messages_are_opened() -> None:
    inner = mail(EICAR)
    outer = b"Content-Type: message/rfc822\r\n\r\n" + inner
    parts = list(message_parts(outer, Budget(DEFAULT_LIMITS)))
    assert EICAR in [one.content for one in parts]
    quoted = b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=58=35O=\r\n!P"
    assert next(message_parts(quoted, Budget(DEFAULT_LIMITS))).content == b"X5O!P"


def dns_tcp(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def test_dns_over_tcp_is_read() -> None:
    asked = bytes(DNS(id=7, rd=1, qd=DNSQR(qname="www.example.org")))
    told = bytes(
        DNS(
            id=7,
            qr=1,
            qd=DNSQR(qname="www.example.org"),
            an=DNSRR(rrname="www.example.org", rdata="10.0.0.1"),
        )
    )
    driven = exchange([(UP, dns_tcp(asked)), (DOWN, dns_tcp(told))])
    assert driven.findings == []
    assert driven.inspector.protocol == "dns"
    assert exchange([(UP, dns_tcp(asked + b"x"))]).checks == ["dns-message"]
    assert exchange([(UP, dns_tcp(asked)), (DOWN, dns_tcp(asked))]).checks == ["dns-direction"]


@pytest.mark.parametrize("name", [b"\xc0\x0c", b"\x40abc\0", b"\x05ab", b"\xc0"])
def test_rejects_names_that_loop_or_break(name: bytes) -> None:
    with pytest.raises(Refusal):
        parse_message(b"\0\1\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1")


def test_a_tunnel_in_names_is_found_and_ordinary_names_are_not() -> None:
    watch = TunnelWatch()
    with pytest.raises(Refusal) as refused:
        for number in range(100):
            data = (
                base64.b32encode(number.to_bytes(2, "big") * 3 + bytes(range(number, number + 20)))
                .decode()
                .strip("=")
                .lower()
            )
            watch.see(f"{data}.t.example.org".encode())
    assert refused.value.reason is DropReason.DATA_LEAK
    ordinary = (
        "www",
        "static-assets-production",
        "d111111abcdef8",
        "ec2-10-0-0-1",
        "very-long-host-name-of-a-department",
    )
    assert not [one for one in ordinary if looks_encoded(one.encode())]


def test_a_secret_in_a_text_record_is_found() -> None:
    told = bytes(
        DNS(id=7, qr=1, qd=DNSQR(qname="x.org"), an=DNSRR(rrname="x.org", type="TXT", rdata=[SECRET]))
    )
    asked = bytes(DNS(id=7, rd=1, qd=DNSQR(qname="x.org")))
    driven = Driven().feed(UP, dns_tcp(asked)).feed(DOWN, dns_tcp(told))
    assert set(driven.checks) == {"secrets.aws-access-key"}


@pytest.fixture(scope="session")
def server_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and its certificate."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=9000))
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(key.private_bytes(*pem) + made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    return file


def asked_again(key: Path, first: str, second: str) -> tuple[bytes, bytes, bytes]:
    """Two hellos and what the server says between them: it can't use the first one's key."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(key)
    server.set_ecdh_curve("secp384r1")
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up, server_hostname=first), server.wrap_bio(up, down, server_side=True)
    hellos = []
    for end in (*ends, ends[0]):
        with pytest.raises(ssl.SSLWantReadError):
            end.do_handshake()
        bio = down if end is ends[1] else up
        hellos.append(bio.read())
        bio.write(hellos[-1])
    return hellos[0], hellos[1], hellos[2].replace(first.encode(), second.encode())


@pytest.mark.parametrize("size", [1, 7, 5000])
@pytest.mark.parametrize("waits", [True, False])
def test_the_name_in_a_second_hello_is_read(server_key: Path, size: int, waits: bool) -> None:
    """OpenSSL's server takes the name from the hello after HelloRetryRequest."""
    first, retry, second = asked_again(server_key, "allowed.example", "another.example")
    story = [(UP, first), (DOWN, retry), (UP, second)] if waits else [(UP, first + second), (DOWN, retry)]
    driven = exchange(
        [(way, data[at : at + size]) for way, data in story for at in range(0, len(data), size)]
    )
    assert driven.findings == []
    assert driven.out == driven.sent
    names = [facts["sni"] for kind, facts in driven.inspector.notes if kind == "tls-client"]
    assert names == ["allowed.example", "another.example"]
    assert second[:6] == b"\x14\3\3\0\1\1"  # a change of ciphers comes first
    joined = first[:3] + (len(first) + len(second) - 16).to_bytes(2, "big") + first[5:] + second[11:]
    names = [facts["sni"] for kind, facts in exchange([(UP, joined)]).inspector.notes if kind == "tls-client"]
    assert names == ["allowed.example", "another.example"]


def test_rejects_a_second_hello_that_servers_read_differently(server_key: Path) -> None:
    first, _, second = asked_again(server_key, "allowed.example", "another.example")
    twice = second[11:].replace(b"\0\x2b\0", b"\0\x00\0", 1)
    assert twice != second[11:]
    driven = exchange([(UP, first), (UP, second[:11] + twice)])
    assert driven.checks == ["tls-hello"]


def test_what_is_encrypted_may_begin_as_a_hello_does() -> None:
    for tail in (b"\1\0\0\x50" + bytes(36), b"\1\xff\xff\xff" + bytes(36), b"\1", b""):
        record = b"\x16\3\3" + len(tail).to_bytes(2, "big") + tail
        driven = exchange([(UP, client_hello()), (UP, b"\x14\3\3\0\1\1" + record), (UP, b"\x17\3\3\0\2ab")])
        assert driven.findings == []
        assert driven.out == driven.sent


def test_ja4_leaves_out_grease_and_takes_the_highest_version() -> None:
    """As FoxIO's own programs do: also among the signatures, and whatever the version means."""
    plain = ja4(0x0304, [0x1301], {13: b"\0\4\4\3\x08\4"}, [])
    assert plain == ja4(0x0304, [0x0A0A, 0x1301], {13: b"\0\6\x1a\x1a\4\3\x08\4", 0x2A2A: b""}, [])
    hello = client_hello()
    versions = b"\0\x2b\0\5\4\3\4\3\3"
    assert versions in hello
    odd = hello.replace(versions, b"\0\x2b\0\5\4\xfb\x1a\3\4")
    greased = hello.replace(versions, b"\0\x2b\0\5\4\x5a\x5a\3\4")
    for one, head in ((hello, "t13d"), (odd, "t00d"), (greased, "t13d")):
        (facts,) = [facts for kind, facts in exchange([(UP, one)]).inspector.notes if kind == "tls-client"]
        assert (facts["ja4"][:4], facts["version"]) == (head, "1.3")


def node_status(name: bytes, data: bytes) -> bytes:
    """What a machine says of itself in NetBIOS (RFC 1002, 4.2.18)."""
    head = b"\x8d\2\x84\0\0\0\0\1\0\0\0\0" + bytes([len(name)]) + name
    return head + b"\0\0\x21\0\1\0\0\0\0" + len(data).to_bytes(2, "big") + data


def test_what_machines_say_of_themselves_in_netbios_is_no_broken_srv() -> None:
    names = b"WIN-I82B81NSLLJ\0\x04\0WORKGROUP      \0\x84\0WIN-I82B81NSLLJ\x20\x04\0"
    told = b"\3" + names + b"\x0a\2\xd7\x5e\x97\2" + bytes(40)
    star = b"CK" + b"A" * 30
    assert parse_message(node_status(star, told)).names == (star,)
    as_srv = b"\0\1\0\1\x01\xbd\5other\1x\0"
    assert parse_message(node_status(star, as_srv)).names == (star, b"other.x")
    for owner in (b"a", star[1:], star.lower()):
        with pytest.raises(Refusal):
            parse_message(node_status(owner, told))
