"""HTTP against lenient receivers: of no answer do they get the test file out of what was let through."""

import zlib

import pytest

from filters.inspection.spec import InspectionSpec
from tests.filters.inspection.answer_grid import grid
from tests.filters.inspection.drive import DOWN, EICAR, GET, SECRET, UP, Driven, answer, chunked, exchange
from tests.filters.inspection.evader import VARIANTS
from tests.filters.inspection.receivers import readings

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
