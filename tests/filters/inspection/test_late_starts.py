"""What servers take for HTTP or mail although it does not look so at once; and what only resembles it."""

import base64
import gzip
import time

import pytest

from filters.inspection.protocols.identify import Guess, guess, late
from filters.inspection.spec import InspectionSpec, OnError
from filters.reason import DropReason
from tests.filters.inspection.drive import DOWN, EICAR, SECRET, UP, Driven, exchange
from tests.filters.inspection.test_protocols import client_hello

PACKED = gzip.compress(EICAR + b" key " + SECRET)
POST = (
    b"POST /up HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED)
    + PACKED
)
# nginx takes capitals, `_` and `-` for a method; Apache, aiohttp and others any token; http.server parts words at any blank
METHODS = (b"A_B", b"X1", b"a.b", b"!#$%&'*+-.^_`|~9", b"M" * 60, b"0", b"_")
ODD = (
    b"A_B\x85/\x85HTTP/1.1",
    b"POST\xa0/\xa0HTTP/1.1",
    b"\r\nA_B / HTTP/1.1",
    b"A_B\x1c/ http/1.1 ",
    b"G%T  /\tHTTP/1.0\r",
)
MAIL = (
    b"MAIL FROM:<a@h>\r\nRCPT TO:<b@h>\r\nDATA\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.b64encode(EICAR)
)
JUNK = (b"FOO\r\n", b"FOO\nBAR 1\n", b"\x01\x02\xff\r\n", b"*1\r\n$4\r\nPING\r\n", b"A_B " + b"x" * 600 + b"\r\n", b"FOO\r\n" * 200, b"\r\n", b"NOOP " + b"x" * 600 + b"\r\n")  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_a_request_with_any_method_is_read(method: bytes, size: int) -> None:
    story = method + b" / HTTP/1.1\r\nHost: h\r\n\r\n" + POST
    driven = exchange([(UP, story[at : at + size]) for at in range(0, len(story), size)])
    assert driven.inspector.protocol == "http"
    assert driven.cut is not None
    assert driven.cut.inside == "body"


@pytest.mark.parametrize("line", ODD)
def test_a_request_with_odd_blanks_is_none_of_the_unknown(line: bytes) -> None:
    assert guess(UP, line + b"\n") is Guess.HTTP
    assert exchange([(UP, line + b"\n" + POST)]).cut is not None


@pytest.mark.parametrize("size", [1, 500, 1 << 16])
def test_a_request_line_that_is_too_long_to_tell_is_refused_when_it_ends(size: int) -> None:
    for line in (b"M" * 600 + b" / HTTP/1.1\r\n", b"A_B /" + b"x" * 3000 + b" HTTP/1.1\r\n"):
        story = line + b"Host: h\r\n\r\n" + POST
        driven = exchange([(UP, story[at : at + size]) for at in range(0, len(story), size)])
        assert driven.checks == ["protocol-mismatch"]
        assert PACKED not in driven.out[UP]


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("start", [b"EHLO c\r\n", b"helo\tc\r\n", b""])
@pytest.mark.parametrize("size", [1, 6, 1 << 16])
@pytest.mark.parametrize("banner", [b"", b"220 h ready\r\n"])
def test_mail_behind_a_line_that_servers_answer_with_an_error_is_refused(
    junk: bytes, start: bytes, size: int, banner: bytes
) -> None:
    story = junk + start + MAIL
    driven = Driven().feed(DOWN, banner) if banner else Driven()
    for at in range(0, len(story), size):
        driven.feed(UP, story[at : at + size])
    assert driven.cut is not None
    assert driven.cut.reason is DropReason.PARSE_ERROR
    assert b"DATA" not in driven.out[UP]


OTHERS = (
    b'<13>Nov 30 10:00:00 h web: "GET / HTTP/1.1" 200\n', b'127.0.0.1 - - [x] "GET / HTTP/1.1" 200 5\n', b'123 <13>1 - h web - - - "POST /a HTTP/1.1"\n', b"123 <13>1 - h web - - - POST /a HTTP/1.1\n", b"web.requests.http/1 5 1700000000\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n", b"set x_1 0 0 5\r\nhello\r\n", b"gets x_1 y\r\n", b"NICK a_b\r\nUSER a b c :HTTP/1.1\r\n", b"CAP LS 302\r\n", b"USER a_b\r\n", b"a1 LOGIN x y\r\n",
    b"A001 CAPABILITY\r\n", b"\0\0\0\x08\x04\xd2\x16\x2f", b"0032git-upload-pack /x\0host=h\0", b"GIOP\1\2\0\0", b"job_1 done http/1.1 fine\n", b"OPTIONS rtsp://db/x RTSP/1.0\r\n",
    b"INVITE_2 sip:a@b SIP/2.0\r\n", b"REQMOD icap://h/x ICAP/1.0\r\n", b"0123456789" * 100, b"deadbeef" * 300 + b"\n", b"line_1\nA_B / HTTP/1.1\n",
)  # fmt: skip


@pytest.mark.parametrize("start", OTHERS)
@pytest.mark.parametrize("size", [1, 5000])
def test_what_only_resembles_a_request_passes_at_once(start: bytes, size: int) -> None:
    driven = Driven()
    for at in range(0, len(start), size):
        driven.feed(UP, start[at : at + size])
        assert driven.out[UP] == driven.sent[UP]
    driven.feed(DOWN, b"+OK\r\n").feed(UP, b"more\r\n").end(UP).end(DOWN)
    assert driven.findings == []
    assert driven.inspector.protocol == "opaque"


def test_mail_in_what_another_protocol_carries_passes() -> None:
    told = b"mail log:\nEHLO c\r\nMAIL FROM:<a@h>\r\nGET_IT / HTTP/1.1\r\n"
    driven = Driven().feed(UP, b"SET x_1\r\n").feed(DOWN, b"+OK\r\n").feed(UP, told)
    driven.feed(UP, b"x" * (80 << 10) + b"\n").feed(UP, told)
    assert driven.findings == []


def test_a_rule_that_lets_errors_pass_goes_on_scanning() -> None:
    spec = InspectionSpec(frozenset({"secrets"}), on_error=OnError.PASS)
    driven = Driven(spec).feed(UP, b"FOO\r\nEHLO c\r\n")
    assert driven.checks == ["protocol-mismatch"]
    driven.feed(UP, b"MAIL FROM:<a@h>\r\n").feed(UP, b"key " + SECRET + b"\r\n")
    assert driven.checks == ["protocol-mismatch", "secrets.aws-access-key"]


LETTERS = (
    b"Dear all,\nMail from: Anna Smith\nehlo again my friends\n", b"log\nmail from: anna@h.example about lunch\n", b"-\nHelo \nhelo, Anna\n",
    b"-\nMail from: Anna <anna@h>\n", b"-\nMail from: root\n", b"-\n> MAIL FROM:<a@h>\n", b"-\nMAILFROM:<a@h>\nmailer FROM:<a@h>\n",
    b"-\nMail from: a@h, b@h\n", b"line\n" * 128 + b"helo there\n", b"-\nMAIL FROM:<a@h>",
)  # fmt: skip


@pytest.mark.parametrize("text", LETTERS)
@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_a_text_that_names_its_sender_passes_to_a_silent_server(text: bytes, size: int) -> None:
    driven = Driven()
    for at in range(0, len(text), size):
        driven.feed(UP, text[at : at + size])
    assert driven.end(UP).findings == []
    assert driven.out[UP] == text


COMMANDS = (
    b" MAIL FROM:<a@h>", b"MAIL\x0bFROM:<a@h>", b"\t\x0c\r mail\x0c from:\x0ba@h\x0b", b"MAIL FROM:<>", b"MAIL FROM:<a@h> SIZE=5 SMTPUTF8",
    b"MAIL FROM:<a@h>BODY=8BITMIME", b"MAIL FROM : @x:a@h AUTH=<> ", b" EHLO c", b"helo\x0b[1.2.3.4] ", b"MAIL FROM:root\r\nRCPT TO:root",
    b"MAIL FROM:\"a b\"@h\r\n\x0bRCPT\x0bTO:\"a b\"@h", b"MAIL FROM:<a@h> FOO BAR\r\n rcpt to: b", b"NOOP\r\n" * 110 + b"EHLO c",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("before", [b"\r\n", b"FOO\r\n", b" EHLO c\r\n"])
@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_a_mail_command_as_servers_part_it_is_found_late(command: bytes, before: bytes, size: int) -> None:
    driven = Driven().feed(DOWN, b"220 h ready\r\n")
    story = before + command + b"\r\nDATA\r\n" + base64.b64encode(EICAR)
    for at in range(0, len(story), size):
        driven.feed(UP, story[at : at + size])
    assert driven.checks == ["protocol-mismatch"]
    assert b"DATA" not in driven.out[UP]


@pytest.mark.parametrize("line", [b"@", b"<", b">", b" ", b"<>", b"a=", b" a=b", b"a@b ", b"<a> b="])
def test_a_long_line_costs_the_search_for_mail_little(line: bytes) -> None:
    story = b"FOO\r\nMAIL FROM:" + line * (60_000 // len(line)) + b"!!\n"
    begun = time.process_time()
    late(story, 0, are_first=True)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    "begin",
    [
        b"PROXY TCP4 10.0.0.2 10.0.0.3 40000 80\r\n", b"PROXY TCP6 ::1 ::2 40000 80\r\n", b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ],
)  # fmt: skip
def test_rejects_a_stream_behind_the_address_that_a_proxy_tells(begin: bytes, size: int) -> None:
    """Servers of HTTP and mail that expect such a line read what follows as if it stood alone: here it is not unpacked."""
    story = begin + b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n"
    driven = exchange([(UP, story[at : at + size]) for at in range(0, len(story), size)])
    assert driven.checks == ["protocol-mismatch"]
    assert b"HTTP" not in driven.out[UP]
    if begin.startswith(b"PROXY"):
        for other in (
            client_hello(),
            b"EHLO c\r\n",
            b"SSH-2.0-x\r\n",
            b"\0\x13\0\7\1\0\0\1" + bytes(6) + b"\1a\0\0\1\0\1",
        ):
            assert exchange([(UP, begin), (UP, other)]).checks == ["protocol-mismatch"]


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    "text",
    [
        b"PROXY of somebody\r\n", b"PROXYTCP4 \r\n", b"PROXY TCP7 a\r\nGET /\r\n", b"hello\nPROXY TCP4 a b 1 2\r\nGET /\r\n",
        # MySQL behind HAProxy: its client waits for the server's greeting
        b"PROXY TCP4 10.0.0.2 10.0.0.3 64278 3306\r\n", b"PROXY UNKNOWN\r\n\xb2\0\0\1\x85\xa6\xff\1" + bytes(600),
    ],
)  # fmt: skip
def test_other_streams_behind_the_address_that_a_proxy_tells_pass(text: bytes, size: int) -> None:
    story = [(UP, text[at : at + size]) for at in range(0, len(text), size)]
    greeting = b"\x4a\0\0\0\x0a5.7.30\0" + bytes(60)
    login = b"\xb2\0\0\1\x85\xa6\xff\1" + bytes(170)
    driven = exchange([*story, (DOWN, greeting), (UP, login), (DOWN, b"\7\0\0\2\0\0\0\2\0\0\0")])
    assert driven.findings == []
    assert driven.out == driven.sent
