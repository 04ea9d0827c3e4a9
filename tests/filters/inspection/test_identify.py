"""Protocols by their first bytes: words in capitals are HTTP only where they ask for something as HTTP does."""

import base64

import pytest

from filters.inspection.protocols.identify import LONGEST, Guess, guess
from filters.inspection.spec import InspectionSpec
from tests.filters.inspection.drive import DOWN, SECRET, UP, Driven, exchange

REQUESTS = (
    b"GET / HTTP/1.1\r\n", b"get-it  / HTTP/1.1\r\n".replace(b"get-it", b"Get"), b"POST  x HTTP/1.1\r\n", b"GET key\r\n",
    b"OPTIONS * HTTP/1.1\r\n", b"CONNECT db:80 HTTP/1.1\r\n", b"PUT http://db/x\r\n", b"BREW pot http/1.0\n",
    b"PUT\x20\tx HTTP/1.1\n", b"POST " + b" " * LONGEST + b"/ HTTP/1.1\r\n", b"PUT x\rHTTP/1.1\n",
)  # fmt: skip
OTHERS = (
    b"SET key value\r\nGET key\r\n", b"USER somebody\r\n", b"HELLO world\n", b"LIST 1\r\n", b"INVITE sip:a@b SIP/2.0\r\n",
    b"OPTIONS rtsp://db/x RTSP/1.0\r\n", b"NICK somebody\r\nUSER a b c :HTTP/1.1\r\n", b"QUIT\r\n",
)  # fmt: skip


@pytest.mark.parametrize("start", REQUESTS)
def test_requests_are_http_in_any_pieces(start: bytes) -> None:
    seen = [guess(UP, start[:end]) for end in range(1, len(start) + 1)]
    assert {one for one in seen if one} == {Guess.HTTP}
    assert seen[-1] is Guess.HTTP


@pytest.mark.parametrize("start", OTHERS)
def test_other_words_in_capitals_are_not(start: bytes) -> None:
    seen = [guess(UP, start[:end]) for end in range(1, len(start) + 1)]
    assert {one for one in seen if one} == {Guess.OTHER}
    assert exchange([(UP, start), (DOWN, b"+OK\r\n")]).findings == []


MAIL = (
    b"EHLO c\r\n", b"helo c\r\n", b"LHLO\tc\r\n", b"MAIL FROM:<a@h>\r\n", b"mail from: <a@h>\r\n", b"NOOP\r\nEHLO c\r\n", b"NOOP x\nRSET\nMAIL FROM:<a@h>\r\n",
    b"HELP\r\nVRFY a\r\nHELO c\r\n",
)  # fmt: skip


@pytest.mark.parametrize("start", MAIL)
@pytest.mark.parametrize(
    "banner", [b"220 h\r\n", b"220 h Mail Transfer Service Ready\r\n", b"220-h\r\n220 ESMTP\r\n"]
)
@pytest.mark.parametrize("size", [1, 100])
def test_mail_is_read_however_its_client_begins(start: bytes, banner: bytes, size: int) -> None:
    message = b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(b"key " + SECRET) + b"\r\n.\r\n"
    replies = b"250 ok\r\n" * start.count(b"\n")
    story = [
        (DOWN, banner),
        *((UP, start[at : at + size]) for at in range(0, len(start), size)),
        (DOWN, replies),
    ]
    story += [(UP, b"DATA\r\n"), (DOWN, b"354 go\r\n"), (UP, message)]
    driven = exchange(story)
    assert driven.cut is not None
    assert driven.cut.check in {"secrets.aws-access-key", "smtp-command", "smtp-line-end"}
    assert message not in driven.out[UP]


def test_a_rule_that_demands_smtp_takes_any_greeting_for_one() -> None:
    spec = InspectionSpec(frozenset({"secrets"}), protocol="smtp")
    driven = Driven(spec).feed(DOWN, b"220 h ready\r\n").feed(UP, b"EHLO c\r\n").feed(DOWN, b"250 h\r\n")
    assert driven.out == driven.sent
    assert Driven(spec).feed(DOWN, b"220 ftp\r\n").feed(UP, b"USER x\r\n").checks == ["smtp-command"]


@pytest.mark.parametrize("start", [b"NOOP\r\nUSER x\r\n", b"HELP\r\n", b"RSET\r\nLIST\r\n"])
def test_words_that_others_say_too_do_not_make_it_mail(start: bytes) -> None:
    driven = exchange([(DOWN, b"220 ftp\r\n"), (UP, start), (DOWN, b"200 ok\r\n")])
    assert driven.findings == []
    assert driven.out[UP] == start


def test_what_is_no_http_is_scanned_and_may_not_be_answered_by_http() -> None:
    assert exchange([(UP, b"SET key " + SECRET + b"\r\n")]).checks == ["secrets.aws-access-key"]
    assert exchange([(UP, b"SET x y\r\n"), (DOWN, b"HTTP/1.1 200 OK\r\n\r\n")]).checks == [
        "protocol-mismatch"
    ]


def test_rejects_tls_of_a_server_however_it_cuts_its_first_record() -> None:
    """A client's empty record first: OpenSSL reads the hello behind it, and only the server's answer shows it here."""
    hello = b"\x16\3\3\0\x30\2\0\0\x2c" + bytes(44)
    for at in range(1, len(hello)):
        story = [(UP, b"\x16\3\1\0\0\x16\3\1\2\0\1"), (DOWN, hello[:at]), (DOWN, hello[at:])]
        assert exchange(story).checks == ["protocol-mismatch"]
