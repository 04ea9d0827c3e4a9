"""HTTP against lenient receivers: of no answer do they get the test file out of what was let through."""

import gzip
import zlib

import pytest

from filters.inspection.spec import InspectionSpec
from tests.filters.inspection.answer_grid import grid
from tests.filters.inspection.drive import DOWN, EICAR, GET, SECRET, UP, Driven, answer, chunked, exchange
from tests.filters.inspection.evader import VARIANTS
from tests.filters.inspection.receivers import readings

GZIPPED = gzip.compress(b"fine", mtime=0)
POST = b"POST / HTTP/1.1\r\nHost: h\r\n"


def let_through(said: bytes) -> bytes:
    """What a client has of an answer before the connection ends."""
    driven = Driven().feed(UP, GET).feed(DOWN, said)
    if driven.cut is None:
        driven.pause(DOWN)
    driven.inspector.close()
    return bytes(driven.out[DOWN])


def test_no_lenient_receiver_gets_the_test_file() -> None:
    seen, missed = 0, []
    for name, said in (*grid(), *VARIANTS.items()):
        seen += 1
        got = let_through(said)
        if any(EICAR in one for one in readings(got)):
            missed.append(name)
    assert missed == []
    assert seen > 10_000


def test_the_lenient_receiver_gets_the_test_file_without_us() -> None:
    got = [name for name, said in grid() if any(EICAR in one for one in readings(said))]
    assert len(got) > 4000


def test_no_lenient_server_gets_the_test_file() -> None:
    """The same heads and bodies as requests, read as leniently."""
    seen, missed, line = 0, [], b"HTTP/1.1 200 OK\r\n"
    for name, said in grid():
        if not said.startswith(line):
            continue
        seen += 1
        asked = Driven().feed(UP, POST + said[len(line) :])
        got = bytes(asked.out[UP])
        asked.inspector.close()
        if any(EICAR in one for one in readings(line + got[len(POST) :])):
            missed.append(name)
    assert missed == []
    assert seen > 3_000


@pytest.mark.parametrize(
    "begin",
    [
        b"post / HTTP/1.1\r\n", b"Post / http/1.1\r\n", b"\r\nPOST / HTTP/1.1\r\n", b"\n\n\nPOST / HTTP/1.1\r\n", b" POST / HTTP/1.1\r\n", b"\xef\xbb\xbfPOST / HTTP/1.1\r\n",
        b"post\t/ HTTP/1.1\r\n", b"x / HTTP/1.0\r\n", b"POST  /  HTTP/1.1\r\n", b"\x0bPOST / HTTP/1.1\r\n", b"\r\n" * 400 + b"POST / HTTP/1.1\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 1000])
def test_requests_in_disguise_are_read_or_refused(begin: bytes, size: int) -> None:
    packed = zlib.compress(b"key " + SECRET)
    whole = (
        begin + b"Host: h\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    )
    driven = exchange([(UP, whole[at : at + size]) for at in range(0, len(whole), size)])
    assert driven.cut is not None
    assert driven.cut.reason in {"parse-error", "data-leak"}
    assert packed not in driven.out[UP]


@pytest.mark.parametrize(
    "name", [b"Transfer_Encoding", b"Content_Length", b"Content-Encoding_", b"Content_Type"]
)
def test_rejects_fields_that_gateways_rename(name: bytes) -> None:
    driven = exchange([(UP, POST + name + b": x\r\nContent-Length: 1\r\n\r\nx")])
    assert ("http-field" in driven.checks) is not name.endswith(b"_")


def test_a_token_beside_the_content_is_found() -> None:
    story = {
        "chunk extension": POST + b"Transfer-Encoding: chunked\r\n\r\n1;a=" + SECRET + b"\r\nx\r\n0\r\n\r\n",
        "trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: " + SECRET + b"\r\n\r\n",
        "escaped form": POST + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % (3 * len(SECRET))
        + b"".join(b"%%%02X" % one for one in SECRET),
        "escaped target": b"GET /?k=" + b"".join(b"%%%02x" % one for one in SECRET) + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    }  # fmt: skip
    for name, said in story.items():
        for size in (1, len(said)):
            driven = exchange([(UP, said[at : at + size]) for at in range(0, len(said), size)])
            assert "secrets.aws-access-key" in driven.checks, name


def test_what_a_coding_skips_is_found() -> None:
    packed = gzip.compress(b"fine", mtime=0)
    comment = packed[:3] + b"\x10" + packed[4:10] + b"a key: " + SECRET + b"\0" + packed[10:]
    field = b"Content-Encoding: gzip\r\n"
    said = POST + field + b"Content-Length: %d\r\n\r\n" % len(comment) + comment
    for size in (1, len(said)):
        driven = exchange([(UP, said[at : at + size]) for at in range(0, len(said), size)])
        assert driven.checks[:1] == ["secrets.aws-access-key"]


def test_what_is_not_coded_as_its_label_says_is_found() -> None:
    """These bytes begin like brotli that says nothing for long; whoever keeps them as they are has the file."""
    body = gzip.compress(b"x", mtime=0x1CCC622) + EICAR
    assert EICAR not in let_through(answer(body, b"Content-Encoding: br", length=False))


def test_rejects_chunks_that_receivers_count_differently() -> None:
    said = answer(b"100000044\r\n" + EICAR[:30], b"Transfer-Encoding: chunked", length=False)
    assert exchange([(UP, GET), (DOWN, said)]).checks[0] == "http-chunk-size"


def test_rejects_a_part_of_an_upload() -> None:
    part = POST + b"Content-Range: bytes 0-29/68\r\nContent-Length: 30\r\n\r\n" + EICAR[:30]
    assert exchange([(UP, part)]).checks == ["partial-object"]
    whole = POST + b"Content-Range: bytes 0-2/3\r\nContent-Length: 3\r\n\r\nabc"
    assert exchange([(UP, whole)]).findings == []
    assert exchange([(UP, part)], InspectionSpec(partial_objects=True)).findings == []


def test_rejects_deflate_with_and_without_a_header() -> None:
    inner = zlib.compress(b"fine", 0)
    both = inner[:2] + inner[2:3] + bytes([inner[1] ^ 0xFF, inner[2] ^ 0xFF]) + inner[3:]
    driven = exchange([(UP, GET), (DOWN, answer(both, b"Content-Encoding: deflate"))])
    assert "without a zlib header" in driven.findings[0].detail


GZIP, TYPE = b"Content-Encoding: gzip", b"Content-Type: "
PARTS = b"--a,b\r\n\r\nfine\r\n--a,b--\r\n"
OTHER_READINGS = {  # answers that some receiver reads otherwise, and answers like them that all read alike
    "gzip with an extra field": (
        [answer(GZIPPED[:3] + b"\4" + GZIPPED[4:10] + b"\2\0xx" + GZIPPED[10:], GZIP)],
        [answer(GZIPPED[:3] + b"\x08" + GZIPPED[4:10] + b"name\0" + GZIPPED[10:], GZIP)],
        "coding-broken",
    ),
    "a field behind a next-line character": (
        [answer(b"fine", b"Server: a\x85" + one) for one in (b"Transfer-Encoding : chunked", b"content-type:x")],
        [answer(b"fine", f"X: {one}".encode()) for one in ("filename=Åland: x", "х-ref: 1", "见仅https://a")],
        "http-field",
    ),
    "several types": (
        [
            answer(b"fine", TYPE + one)
            for one in (
                b"text/plain, Multipart/mixed; boundary=b", b"message/rfc822, text/plain", b"text/plain,application/x-www-form-urlencoded",
                b'text/plain; x=", multipart/mixed; boundary=b; y="',
            )
        ],
        [answer(b"fine", TYPE + b"text/plain, text/html"), answer(PARTS, TYPE + b'multipart/mixed; boundary="a,b"')],
        "http-field-twice",
    ),
    "a head that goes on behind its end": (
        [
            answer(one + b"\r\n\r\n4\r\nfine", length=False)
            for one in (b" \r\nTransfer-Encoding: chunked", b"\r\n" * 900 + b"content-encoding : gzip", b"X: y\r\nZ:\r\nContent-Length: 4")
        ],
        [
            answer(one, length=False)
            for one in (b"Content-Type: text/plain\r\n\r\na mail", b"text\r\nTransfer-Encoding: chunked\r\n", b"a: " + b"x" * 2000 + b"\nContent-Length: 4")
        ],
        "http-field",
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("name", OTHER_READINGS)
def test_rejects_what_some_receivers_read_otherwise(name: str, size: int) -> None:
    bad, fine, check = OTHER_READINGS[name]
    for said, expected in (*((one, [check]) for one in bad), *((one, []) for one in fine)):
        pieces = [(DOWN, said[at : at + size]) for at in range(0, len(said), size)]
        assert exchange([(UP, GET), *pieces]).checks == expected, said


@pytest.mark.parametrize("size", [1, 10_000])
def test_a_bad_chunk_line_is_bad_however_long_it_is(size: int) -> None:
    said = answer(b"5\r" + b"x" * 300, b"Transfer-Encoding: chunked", length=False)
    pieces = [(DOWN, said[at : at + size]) for at in range(0, len(said), size)]
    assert exchange([(UP, GET), *pieces]).checks == ["http-chunk-size"]


@pytest.mark.parametrize("size", [1, 100])
def test_rejects_zstd_that_holds_less_than_it_says(size: int) -> None:
    said = answer(b"\x28\xb5\x2f\xfd\x20\xff\1\0\0", b"Content-Encoding: zstd")
    pieces = [(DOWN, said[at : at + size]) for at in range(0, len(said), size)]
    assert exchange([(UP, GET), *pieces]).checks == ["coding-broken"]


def test_rejects_a_final_block_in_a_websocket_message() -> None:
    extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    asked = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + extension
    agreed = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + extension
    packer = zlib.compressobj(wbits=-15)
    final = packer.compress(b"first") + packer.flush()
    driven = Driven().feed(UP, asked).feed(DOWN, agreed).feed(DOWN, bytes([0xC2, len(final)]) + final)
    assert driven.checks == ["websocket-deflate"]


def test_a_closing_frame_may_come_in_pieces() -> None:
    asked = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    agreed = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    driven = Driven().feed(UP, asked).feed(DOWN, agreed)
    for one in b"\x88\x82\1\2\3\4\x02\xea":
        driven.feed(UP, bytes([one]))
    assert driven.findings == []
    assert driven.feed(UP, b"\x81\x80\1\2\3\4").checks == ["websocket-after-close"]


def test_many_small_pieces_cost_no_more_than_one() -> None:
    """A head in single bytes, and a body in chunks of one byte: bounded work, whatever the pieces are."""
    head = POST + b"X: " + b"y" * 60_000
    driven = Driven()
    for at in range(len(head)):
        driven.feed(UP, head[at : at + 1])
    assert driven.findings == []
    said = answer(chunked(b"z" * 300_000, 1), b"Transfer-Encoding: chunked", length=False)
    assert exchange([(UP, GET), (DOWN, said)]).findings == []
