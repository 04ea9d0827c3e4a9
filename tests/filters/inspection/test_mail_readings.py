"""Mail that programs take apart in several ways: what one of them shows is found or refused, what none of them minds passes."""

import base64
import binascii
import time

import pytest

from filters.inspection.objects.mail_text import yencoded
from tests.filters.inspection.drive import EICAR, SECRET, SPEC, exchange, toolbox
from tests.filters.inspection.test_mail_disguises import checks, lines, wrapped
from tests.filters.inspection.test_protocols import smtp

HEAD = b"From: a@h\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
CODED = base64.b64encode(EICAR)
ATTACHED = b"Content-Transfer-Encoding: base64\r\n\r\n" + CODED + b"\r\n"
PIECES = [binascii.b2a_uu(EICAR[:45])[:-1], binascii.b2a_uu(EICAR[45:])[:-1]]
HIGH = [bytes(one + 64 if at and 33 <= one <= 62 else one for at, one in enumerate(line)) for line in PIECES]
YENC = b"".join(
    b"=" + bytes([(one + 106) % 256]) if (one + 42) % 256 in (0, 10, 13, 61) else bytes([(one + 42) % 256])
    for one in EICAR
)
ODD = b"Content-Type: multipart/mixed; boundary*0=b\r\n\r\n--b\r\n" + ATTACHED + b"--b--\r\n"


def mixed(part: bytes, kind: bytes = b"mixed", boundary: bytes = b"z", label: bytes = b"") -> bytes:
    """A message of one part."""
    head = HEAD + b"Content-Type: multipart/" + kind + b"; boundary=" + (label or boundary) + b"\r\n\r\n"
    return head + b"--" + boundary + b"\r\n" + part + b"\r\n--" + boundary + b"--\r\n"


def behind(label: bytes, shown: bytes, hidden: bytes) -> bytes:
    """A message with an ordinary part between one boundary, and another part between what some take for it."""
    return (
        mixed(b"\r\nfine", boundary=shown, label=label)
        + b"--"
        + hidden
        + b"\r\n"
        + ATTACHED
        + b"--"
        + hidden
        + b"--\r\n"
    )


def stored(fields: bytes) -> bytes:
    """A mail that is attached as a file."""
    inner = (
        HEAD
        + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        + fields
        + b"\r\n\r\n"
        + CODED
        + b"\r\n--b--\r\n"
    )
    return mixed(
        b"Content-Type: application/octet-stream; name=a.eml\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + wrapped(inner)
    )


QUOTED = (
    b"Subject: y=\r\nContent-Type: multipart/mixed; boundary=3Db\r\n\r\n--3Db\r\n" + ATTACHED + b"--3Db--\r\n"
)
SEEN = {
    "a bare boundary with =": behind(b"Apple-Mail=_1A", b"Apple-Mail=_1A", b"Apple-Mail"),
    "a bare boundary with ?": behind(b"b?c", b"b?c", b"b"),
    "a boundary of a coded word": behind(b'"=?us-ascii?q?bq?="', b"=?us-ascii?q?bq?=", b"bq"),
    "a bare boundary with '": behind(b"b'c'd", b"b'c'd", b"d"),
    "parts behind a closing boundary": mixed(b"\r\nfine").replace(b"\r\n\r\n--z", b"\r\n\r\n--z--\r\n--z", 1),
    "parts in a text": HEAD + b"Content-Type: text/plain; boundary=b\r\n\r\n--b\r\n" + ATTACHED + b"--b--\r\n",
    "a message in quoted-printable": mixed(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + QUOTED),
    "message/global": mixed(b"Content-Type: message/global\r\n\r\n" + ODD),
    "message/news": HEAD + b"Content-Type: message/news\r\n\r\n" + ODD,
    "a digest": mixed(b"\r\n" + ODD, b"digest"),
    "a stored mail with two codings": stored(b"Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit"),
    "a stored mail with a comment": stored(b"Content-Transfer-Encoding: base64 (x)"),
    "a stored mail with a semicolon": stored(b"Content-Transfer-Encoding : base64;"),
    "a stored mail with two dispositions": stored(b"Content-Disposition: a\r\nContent-Disposition: b\r\nContent-Transfer-Encoding: base64"),
    "a stored mail with no type": stored(b"junk\r\nContent-Type: octet\r\nContent-Transfer-Encoding: base64"),
    "uuencode behind an empty line": lines(HEAD[:-2], body=b"begin 644 a\r\n\r\n" + b"\r\n\r\n".join(PIECES) + b"\r\n`\r\nend\r\n"),
    "uuencode in high letters": lines(HEAD[:-2], body=b"begin 644 a\r\n" + b"\r\n".join(HIGH) + b"\r\n`\r\nend\r\n"),
    "yEnc": lines(HEAD[:-2], body=b"=ybegin line=128 size=68 name=a\r\n" + YENC + b"\r\n=yend size=68\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_what_a_program_shows_is_found_or_refused(name: str) -> None:
    message = SEEN[name]
    assert checks(message)
    assert toolbox().judge(SPEC).judge(message, "x", "message/rfc822")
    for each in (1, 7):
        pieces = [
            (way, data[at : at + each]) for way, data in smtp(message) for at in range(0, len(data), each)
        ]
        assert exchange(pieces).checks


BOUNCED = b"Content-Type: message/rfc822\r\n\r\n" + HEAD
PASS = {
    "a bounce of parts": mixed(BOUNCED + b"Content-Type: multipart/mixed; boundary=q\r\n\r\n----- Message truncated -----\r\n", b"report"),
    "a bounce of base64": mixed(BOUNCED + b"Content-Transfer-Encoding: base64\r\n\r\n----- Message truncated -----\r\n", b"report"),
    "an attached mail with LF": mixed(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped(b"Subject: y\n\nfine\n")),
    "an empty part": mixed(b"\r\nfine\r\n--z"),
    "a digest of fine messages": mixed(b"\r\nSubject: y\r\n\r\nfine", b"digest"),
    "quoted-printable that ends in a soft break": mixed(b"Content-Transfer-Encoding: quoted-printable\r\n\r\nfine="),
    "blanks in parameters": mixed(b'Content-Type: text/plain; charset = "utf-8"; x=\r\nContent-Disposition: attachment; filename=My report.pdf\r\n\r\nfine'),
    "a comment": lines(HEAD[:-2], b"Content-Type: text/plain; charset=us-ascii (Plain text)", body=b"fine\r\n"),
    "a bare boundary of Apple Mail": mixed(b"\r\n--Apple-Mail=_1B\r\nfine", boundary=b"Apple-Mail=_1A"),
    "prose behind the word begin": lines(HEAD[:-2], body=b"begin 644 the story\r\nOnce upon a time\r\n\r\nthere was\r\n"),
    "a delivery status": mixed(b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; h\r\n\r\nAction: failed\r\n", b"report"),
}  # fmt: skip


@pytest.mark.parametrize("name", PASS)
def test_what_no_program_minds_passes(name: str) -> None:
    assert checks(PASS[name]) == set()


def test_yenc_is_read_whole_in_steps() -> None:
    data = bytes(range(256)) * 900
    coded = b"".join(
        b"=" + bytes([(one + 106) % 256])
        if (one + 42) % 256 in (0, 10, 13, 61)
        else bytes([(one + 42) % 256])
        for one in data
    )
    for shift in range(3):
        text = b"=ybegin line=128 size=9 name=a\r\n" + coded
        text = text.replace(b"\r\n", b"\r\n" + b"x" * shift, 1)
        ((name, content),) = yencoded(text)
        assert (name, content[shift:]) == (b"a", data)


def test_a_crowd_of_beginnings_is_read_in_time() -> None:
    for begin in (b"=ybegin line=128 size=68 name=a\r\n", b"begin 644 a\r\n"):
        began = time.process_time()
        assert checks(lines(HEAD[:-2], body=begin * 1900)) == set()
        few = time.process_time() - began
        assert few < 10


def test_labels_with_blanks_are_heeded() -> None:
    text = (b"a key: " + SECRET).decode().encode("utf-16le")
    for label in (b'charset = "utf-16le"', b"charset= utf-16le (the set)"):
        message = lines(
            HEAD[:-2],
            b"Content-Type: text/plain; " + label,
            b"Content-Transfer-Encoding: base64",
            body=wrapped(text),
        )
        assert "secrets.aws-access-key" in checks(message)
