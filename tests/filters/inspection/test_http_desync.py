"""Messages that one receiver takes for others than the inspector does: refused before they are whole."""

import zlib

import pytest

from tests.filters.inspection.drive import DOWN, EICAR, GET, SECRET, UP, Driven, answer, exchange

PACKED = zlib.compress(b"key " + SECRET)
CODED = b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED
TAIL = b"Host: h\r\n" + CODED
HEAD = GET.replace(b"GET", b"HEAD")
HINT = b"HTTP/1.1 103 E\r\nLink: </a>; rel=preload\r\n\r\n"


def told(*pieces: bytes, size: int = 1 << 20) -> Driven:
    """Drive what a client says."""
    whole = b"".join(pieces)
    return exchange([(UP, whole[at : at + size]) for at in range(0, len(whole), size)])


@pytest.mark.parametrize("first", [[(DOWN, HINT), (UP, HEAD)], [(UP, HEAD), (DOWN, HINT)]])
def test_rejects_a_request_behind_one_with_an_informational_answer(first: list[tuple[object, bytes]]) -> None:
    """To Python's client the hint is the answer, the head answers the next request, and its "body" is a message."""
    bad = answer(zlib.compress(EICAR), b"Content-Encoding: deflate")
    story = [(UP, GET), *first, (DOWN, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(bad)), (UP, GET), (DOWN, bad)]  # fmt: skip
    driven = exchange(story)  # type: ignore[arg-type]
    assert driven.checks == ["http-answer-early"]
    assert bad not in driven.out[DOWN]


def test_hints_and_pipelines_pass() -> None:
    fine = answer(b"fine")
    waiting = [
        (UP, GET),
        (DOWN, HINT),
        (DOWN, HINT),
        (DOWN, fine),
        (UP, GET),
        (UP, GET),
        (DOWN, fine),
        (DOWN, fine),
    ]
    assert exchange(waiting).findings == []
    asked = b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    assert exchange([(UP, asked), (DOWN, b"HTTP/1.1 100 C\r\n\r\n"), (UP, b"fine" + GET), (DOWN, fine), (DOWN, fine)]).findings == []  # fmt: skip


ODD_BEGINS = (
    b"\r\nPOST /x\r\n", b"\r\n\r\nPOST http://h/x\r\n", b"POST ftp://h/x\r\n", b"SETUP rtsp://h/x RTSP/1.0\r\n", b"SOURCE x://y ICE/1.0\r\n",
    b"\x1fPOST /x HTTP/1.1\r\n", b"\x85POST /x HTTP/1.1\r\n", b"\xa0POST /x HTTP/1.1\r\n", b"PO:ST /x HTTP/1.1\r\n", b'"POST" /x HTTP/1.1\r\n',
    b"PO\xc3ST /x HTTP/1.1\r\n", b"POST\0 /x HTTP/1.1\r\n", b"PO:ST /x FOO\r\n", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 80\r\nPOST / HTTP/1.1\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\n\n\n\n\n\n\n\n\n\n\n\nPOST / HTTP/1.1\r\n",
)  # fmt: skip


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("begin", ODD_BEGINS)
def test_rejects_a_coded_request_that_does_not_begin_as_one(begin: bytes, size: int) -> None:
    driven = told(begin, TAIL, size=size)
    assert driven.cut is not None
    assert PACKED not in driven.out[UP]


@pytest.mark.parametrize(
    "said",
    [
        b"SET key value\r\n\r\nContent-Encoding: gzip\r\n", b"DESCRIBE rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\n\r\n", b"* OK\r\nx-content-encoding: y\r\n",
        b"\r\n\r\nhello\r\n", b"\0\x01content-encoding:",
    ],
)  # fmt: skip
def test_other_streams_pass(said: bytes) -> None:
    for size in (1, 1 << 20):
        assert told(said, size=size).findings == []


INNER = b"POST /x HTTP/1.1\r\n" + TAIL
IN_BODY = b"GET / HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    "message",
    [
        IN_BODY + b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER,
        IN_BODY + b"Content-Length: %d\r\n\r\n\r\n" % (len(INNER) + 2) + INNER,
        IN_BODY + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n",
    ],
)
def test_rejects_a_body_that_is_a_request(message: bytes, size: int) -> None:
    driven = told(message, size=size)
    assert driven.checks == ["http-body-message"]
    assert PACKED not in driven.out[UP]


def test_rejects_an_answers_body_that_is_an_answer() -> None:
    assert exchange([(UP, GET), (DOWN, answer(answer(b"fine")))]).checks == ["http-body-message"]
    for fine in (b"HTTP/1.1 is a protocol\n", b"GET is a method of HTTP/1.1\r\n", b"HTTP/1.1"):
        assert exchange([(UP, GET), (DOWN, answer(fine))]).findings == []
        assert told(IN_BODY, b"Content-Length: %d\r\n\r\n" % len(fine), fine).findings == []


@pytest.mark.parametrize(
    ("request_", "check"),
    [
        (b"GET http://good/ HTTP/1.1\r\nHost: evil\r\n\r\n", "http-host"),
        (b"GET / HTTP/1.1\r\nHost: h, o\r\n\r\n", "http-host"),
        (b"GET / HTTP/1.1\r\nHost: h/p\r\n\r\n", "http-host"),
        (b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", "http-host"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 010\r\n\r\n1234567890", "http-content-length"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent~Encoding: gzip\r\n\r\n", "http-field"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer!Encoding: chunked\r\n\r\n", "http-field"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close, Content-Encoding\r\n\r\n", "http-field"),
    ],
)  # fmt: skip
def test_rejects_fields_that_servers_read_differently(request_: bytes, check: str) -> None:
    assert told(request_).checks == [check]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET http://H:80/ HTTP/1.1\r\nHost: h\r\n\r\n", b"GET http://[::1]:8080/x HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
        b"GET http://somebody@h/x?y@z HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / HTTP/1.1\r\nHost: my_host.example:8080\r\nConnection: keep-alive, Upgrade-Insecure\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nX.Y: z\r\n\r\n",
    ],
)  # fmt: skip
def test_ordinary_heads_pass(request_: bytes) -> None:
    assert told(request_).findings == []


def test_words_that_are_no_coding_are_none_when_they_stand_alone() -> None:
    for word in (b"none", b"utf-8"):
        coding = b"Content-Encoding: " + word
        assert exchange([(UP, GET), (DOWN, answer(b"fine", coding))]).findings == []
        assert "malware.eicar" in exchange([(UP, GET), (DOWN, answer(EICAR, coding))]).checks
        assert exchange([(UP, GET), (DOWN, answer(b"fine", coding + b", gzip"))]).checks == ["coding-unknown"]


def test_what_a_trailer_escapes_is_found() -> None:
    spelled = b"".join(b"%%%02x" % one for one in SECRET)
    said = (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: /?k="
        + spelled
        + b"\r\n\r\n"
    )
    assert told(said).checks == ["secrets.aws-access-key"]
