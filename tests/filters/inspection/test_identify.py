"""Protocols by their first bytes: words in capitals are HTTP only where they ask for something as HTTP does."""

import pytest

from filters.inspection.protocols.identify import LONGEST, Guess, guess
from tests.filters.inspection.drive import DOWN, SECRET, UP, exchange

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


def test_what_is_no_http_is_scanned_and_may_not_be_answered_by_http() -> None:
    assert exchange([(UP, b"SET key " + SECRET + b"\r\n")]).checks == ["secrets.aws-access-key"]
    assert exchange([(UP, b"SET x y\r\n"), (DOWN, b"HTTP/1.1 200 OK\r\n\r\n")]).checks == [
        "protocol-mismatch"
    ]
