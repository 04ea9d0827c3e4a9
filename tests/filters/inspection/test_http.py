"""HTTP: what ordinary programs say passes, whatever could be read in two ways does not."""

import base64
import gzip
import zlib

import brotli
import pytest
import zstandard

from filters.reason import DropReason
from tests.filters.inspection.drive import DOWN, EICAR, GET, SECRET, UP, Driven, answer, chunked, exchange
from tests.filters.inspection.evader import VARIANTS

TEXT = b"an ordinary body, nothing in it " * 20


def zlibbed(data: bytes) -> bytes:
    return zlib.compress(data)


CODERS = {"gzip": gzip.compress, "deflate": zlibbed, "br": brotli.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("name", list(VARIANTS))
def test_evasions_are_found_or_refused(name: str) -> None:
    driven = exchange([(UP, GET), (DOWN, VARIANTS[name])])
    assert driven.cut is not None
    assert driven.cut.reason in {DropReason.MALWARE, DropReason.PARSE_ERROR}
    assert EICAR[-1:] != bytes(driven.out[DOWN])[-1:] or EICAR not in driven.out[DOWN]


@pytest.mark.parametrize("coding", list(CODERS))
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_every_standard_coding_is_undone(coding: str, size: int) -> None:
    field = b"Content-Encoding: " + coding.encode()
    for body, bad in ((TEXT, False), (TEXT + EICAR, True)):
        whole = answer(CODERS[coding](body), field)
        driven = exchange([(UP, GET), *((DOWN, whole[at : at + size]) for at in range(0, len(whole), size))])
        assert (driven.cut is not None) is bad
        if not bad:
            assert driven.out[DOWN] == whole


@pytest.mark.parametrize("outer", list(CODERS))
@pytest.mark.parametrize("inner", list(CODERS))
def test_stacked_codings_are_undone(outer: str, inner: str) -> None:
    field = f"Content-Encoding: {inner}, {outer}".encode()
    packed = CODERS[outer](CODERS[inner](TEXT + EICAR))
    driven = exchange([(UP, GET), (DOWN, answer(packed, field))])
    assert driven.cut is not None
    assert driven.cut.reason is DropReason.MALWARE
    transfer = answer(
        chunked(CODERS[outer](EICAR)), f"Transfer-Encoding: {outer}, chunked".encode(), length=False
    )
    assert exchange([(UP, GET), (DOWN, transfer)]).cut is not None


@pytest.mark.parametrize("coding", list(CODERS))
def test_rejects_a_coding_that_is_incomplete_or_goes_on(coding: str) -> None:
    packed, field = CODERS[coding](TEXT), b"Content-Encoding: " + coding.encode()
    for body in (packed[:-1], packed + b"more", packed + packed):
        driven = exchange([(UP, GET), (DOWN, answer(body, field))])
        assert driven.cut is not None, body
        assert driven.cut.check in {"coding-incomplete", "coding-trailing-data", "coding-broken"}


@pytest.mark.parametrize("coding", list(CODERS))
def test_a_bomb_ends_the_flow_before_it_fills_memory(coding: str) -> None:
    bomb = CODERS[coding](bytes(100 << 20))
    driven = exchange([(UP, GET), (DOWN, answer(bomb, b"Content-Encoding: " + coding.encode()))])
    assert driven.cut is not None
    assert (driven.cut.check, driven.cut.reason) == ("ratio", DropReason.RESOURCE_LIMIT)


def test_many_possible_matches_end_the_flow_before_they_keep_the_inspector_busy() -> None:
    packed = answer(gzip.compress(b"A" * 100_000), b"Content-Encoding: gzip")
    assert exchange([(UP, GET), (DOWN, packed)], hits=50_000).checks == ["hits"]
    plain = answer(b"A" * 100_000)  # as many, but as many bytes too: it comes in several pieces
    pieces = [(DOWN, plain[at : at + 40_000]) for at in range(0, len(plain), 40_000)]
    assert exchange([(UP, GET), *pieces], hits=50_000).checks == []


def test_ordinary_exchanges_pass_whole() -> None:
    cases = {
        "pipelined": [(UP, GET * 3), (DOWN, answer(b"one") + answer(b"two") + answer(b""))],
        "head": [(UP, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" + GET), (DOWN, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + answer(b"x"))],
        "continue": [
            (UP, b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"),
            (DOWN, b"HTTP/1.1 100 Continue\r\n\r\n"), (UP, b"abc"), (DOWN, answer(b"", status=b"HTTP/1.1 201 Created")),
        ],
        "until close": [(UP, b"GET / HTTP/1.0\r\n\r\n"), (DOWN, b"HTTP/1.0 200 OK\r\n\r\nall of it")],
        "not modified": [(UP, GET * 2), (DOWN, b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n" + answer(b"x"))],
        "no content": [(UP, GET), (DOWN, b"HTTP/1.1 204 No Content\r\n\r\n")],
        "no reason": [(UP, GET), (DOWN, answer(b"x", status=b"HTTP/1.1 200 "))],
        "chunked upload": [(UP, b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(TEXT, 99)), (DOWN, answer(b""))],
        "trailer": [(UP, GET), (DOWN, answer(b"3;a=b;c=\"d e\"\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", b"Transfer-Encoding: chunked", length=False))],
        "form": [
            (UP, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=xyz\r\nContent-Length: 92\r\n\r\n"
             b"--xyz\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\nhello\r\nworld\r\n--xyz--\r\n"),
            (DOWN, answer(b"ok")),
        ],
        "whole range": [(UP, GET), (DOWN, answer(b"abc", b"Content-Range: bytes 0-2/3", status=b"HTTP/1.1 206 Partial Content"))],
        "gzipped nothing": [(UP, GET), (DOWN, answer(b"", b"Content-Encoding: gzip"))],
        "utf-8 target": [(UP, "GET /ü HTTP/1.1\r\nHost: h\r\n\r\n".encode()), (DOWN, answer(b"x"))],
        "refused upgrade": [
            (UP, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n"),
            (DOWN, answer(b"x")), (UP, GET), (DOWN, answer(b"y")),
        ],
    }  # fmt: skip
    for name, pieces in cases.items():
        driven = exchange(pieces)
        assert driven.findings == [], name
        for direction in (UP, DOWN):
            assert driven.out[direction] == b"".join(data for way, data in pieces if way is direction), name


@pytest.mark.parametrize(
    ("request_", "check"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "http-host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "http-host"),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "http-request-line"),
        (b"GET /\r\n\r\n", "http-request-line"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "http-field-twice",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "http-two-lengths",
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", "http-field"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", "http-content-length"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "http-field"),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "http-line-end"),
    ],
)
def test_rejects_requests_that_servers_read_differently(request_: bytes, check: str) -> None:
    driven = exchange([(UP, request_)])
    assert driven.checks == [check]


def test_rejects_an_answer_nobody_asked_for() -> None:
    driven = exchange([(UP, GET), (DOWN, answer(b"x") + answer(b"y"))])
    assert driven.checks == ["http-answer-unasked"]


def test_rejects_a_part_of_an_object() -> None:
    part = answer(EICAR[:30], b"Content-Range: bytes 0-29/68", status=b"HTTP/1.1 206 Partial Content")
    assert exchange([(UP, GET), (DOWN, part)]).checks == ["partial-object"]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (b"bytes=34-", ["partial-object"]),
        (b"bytes=-34", ["partial-object"]),
        (b"bytes=0-9,34-", ["partial-object"]),
        (b"items=0-", ["partial-object"]),
        (b"bytes=0-", []),
        (b"Bytes = 0-33", []),
    ],
)
def test_rejects_a_part_that_says_it_is_whole(asked: bytes, wanted: list[str]) -> None:
    request = b"GET / HTTP/1.1\r\nHost: h\r\nRange: " + asked + b"\r\n\r\n"
    said = answer(b"x" * 34, b"Content-Range: bytes 0-33/34", status=b"HTTP/1.1 206 Partial Content")
    assert exchange([(UP, request), (DOWN, said)]).checks == wanted


@pytest.mark.parametrize(
    ("limit", "value", "pieces"),
    [
        ("head", 1000, [(UP, b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 2000)]),
        ("headers", 10, [(UP, b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 20 + b"\r\n")]),
        ("chunk_line", 100, [(UP, GET), (DOWN, answer(b"5;a=" + b"b" * 200, b"Transfer-Encoding: chunked", length=False))]),
        ("codings", 2, [(UP, GET), (DOWN, answer(b"x", b"Content-Encoding: gzip, gzip, gzip"))]),
        ("object", 1000, [(UP, GET), (DOWN, answer(b"x" * 2000))]),
        ("pending", 4, [(UP, GET * 9)]),
    ],
)  # fmt: skip
def test_each_limit_has_its_name(limit: str, value: int, pieces: list[tuple[object, bytes]]) -> None:
    driven = exchange(pieces, **{limit: value})  # type: ignore[arg-type]
    assert driven.cut is not None
    assert (driven.cut.check, driven.cut.reason) == (limit, DropReason.RESOURCE_LIMIT)


def test_websocket_messages_are_read_unmasked_and_unpacked() -> None:
    asked = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    agreed = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    mask = b"\x12\x34\x56\x78"

    def frame(data: bytes, first: int, masked: bool) -> bytes:
        body = bytes(one ^ mask[at % 4] for at, one in enumerate(data)) if masked else data
        size = bytes([len(data) | (0x80 if masked else 0)])
        return bytes([first]) + size + (mask if masked else b"") + body

    packer = zlib.compressobj(wbits=-15)
    packed = (packer.compress(EICAR) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    clean = Driven().feed(UP, asked).feed(DOWN, agreed)
    clean.feed(UP, frame(b"hello", 0x81, True) + frame(b"", 0x89, True)).feed(
        DOWN, frame(b"hello", 0x81, False)
    )
    assert clean.findings == []
    assert clean.out[UP] == clean.sent[UP]
    for way, data in (
        (UP, frame(EICAR, 0x82, True)),
        (DOWN, frame(packed, 0xC2, False)),
        (DOWN, frame(b"x", 0x81, True)),
    ):
        driven = Driven().feed(UP, asked).feed(DOWN, agreed).feed(way, data)
        assert driven.cut is not None


def _login(scheme: bytes, credentials: bytes) -> list[str]:
    request = (
        b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: " + scheme + b" " + credentials + b"\r\nA: b\r\n\r\n"
    )
    return exchange([(UP, request), (DOWN, answer(b"ok"))]).checks


def test_a_client_may_log_in() -> None:
    words = [
        base64.urlsafe_b64encode(one).rstrip(b"=") for one in (b'{"alg":"HS256"}', b'{"sub":"1234567890"}')
    ]
    web_token = b".".join([*words, b"dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"])
    assert _login(b"Basic", base64.b64encode(b"somebody:a good password")) == []
    assert _login(b"bearer", web_token) == []


@pytest.mark.parametrize("scheme", [b"Basic", b"basic  ", b"BASIC"])
def test_what_a_login_says_is_scanned(scheme: bytes) -> None:
    assert _login(scheme, base64.b64encode(b"somebody:" + SECRET)) == ["secrets.aws-access-key"]
    assert _login(b"Bearer", SECRET) == ["secrets.aws-access-key"]
    inside = base64.urlsafe_b64encode(b'{"key": "' + SECRET + b'"}').rstrip(b"=")
    assert _login(b"Bearer", b"eyJhbGciOiJIUzI1NiJ9." + inside + b".c2ln") == ["secrets.aws-access-key"]


def test_a_login_elsewhere_is_a_leak() -> None:
    line = b"Authorization: Basic " + base64.b64encode(b"somebody:a good password")
    sent = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(line) + line
    assert exchange([(UP, sent)]).checks[:1] == ["secrets.basic-authorization"]
    assert exchange([(UP, GET), (DOWN, answer(b"x", line))]).checks[:1] == ["secrets.basic-authorization"]
