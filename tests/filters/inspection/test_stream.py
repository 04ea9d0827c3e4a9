"""What leaves the gateway: nothing that completes a match, and everything else."""

import random
import zlib
from dataclasses import replace

import pytest

from filters.inspection.finding import Direction
from filters.inspection.limits import DEFAULT_LIMITS
from filters.inspection.spec import Hold, InspectionSpec, OnError
from filters.reason import DropReason
from tests.filters.inspection.drive import (
    DOWN,
    EICAR,
    GET,
    SECRET,
    SPEC,
    UP,
    Driven,
    answer,
    chunked,
    exchange,
)

HOLD = InspectionSpec(SPEC.detectors, hold=Hold.OBJECT)


def token() -> bytes:
    return (
        b"ghp_"
        + "".join(
            random.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=36)
        ).encode()
    )


def streams(secret: bytes) -> dict[str, tuple[list[tuple[Direction, bytes]], Direction]]:
    """Ways to carry a secret: what goes before, and the direction of the last piece, which carries it."""
    text = b"some text before " + secret + b" and after"
    packed = zlib.compressobj(wbits=31)
    gzipped = packed.compress(text) + packed.flush()
    post = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(text)
    return {
        "opaque up": ([(UP, b"\0\1" + text)], UP),
        "opaque down": ([(UP, b"\0\1hello"), (DOWN, text)], DOWN),
        "http target": ([(UP, b"GET /?x=" + secret + b" HTTP/1.1\r\nHost: h\r\n\r\n")], UP),
        "http field": ([(UP, b"GET / HTTP/1.1\r\nHost: h\r\nX-Key: " + secret + b"\r\n\r\n")], UP),
        "http request": ([(UP, post + text)], UP),
        "http answer": ([(UP, GET), (DOWN, answer(text))], DOWN),
        "http chunked": (
            [(UP, GET), (DOWN, answer(chunked(text), b"Transfer-Encoding: chunked", length=False))],
            DOWN,
        ),
        "http gzip": ([(UP, GET), (DOWN, answer(gzipped, b"Content-Encoding: gzip"))], DOWN),
    }


@pytest.mark.parametrize("name", list(streams(b"")))
def test_the_last_byte_of_a_secret_never_leaves_at_any_split(name: str) -> None:
    secret = token()
    pieces, direction = streams(secret)[name]
    *before, (_, last) = pieces
    place = last.find(secret) + len(secret) if secret in last else len(last)
    if name in {"http chunked", "http gzip"}:
        place = len(last) - (5 if name == "http chunked" else 0)
    for split in range(1, len(last)):
        driven = exchange([*before, (direction, last[:split]), (direction, last[split:])])
        assert driven.cut is not None, split
        assert driven.cut.check == "secrets.github-token"
        assert driven.cut.reason is DropReason.DATA_LEAK
        assert len(driven.out[direction]) < place, split
        assert secret.decode() not in driven.cut.evidence


@pytest.mark.parametrize("name", list(streams(b"")))
def test_one_byte_segments_hide_nothing_and_clean_ones_pass_whole(name: str) -> None:
    pieces, direction = streams(token())[name]
    *before, (_, last) = pieces
    driven = exchange([*before, *((direction, last[at : at + 1]) for at in range(len(last)))])
    assert driven.cut is not None
    pieces, direction = streams(b"nothing-to-see")[name]
    *before, (_, last) = pieces
    driven = exchange([*before, *((direction, last[at : at + 1]) for at in range(len(last)))])
    assert driven.findings == []
    assert bytes(driven.out[direction]) == b"".join(data for way, data in pieces if way is direction)


@pytest.mark.parametrize("split", [1, 40, 80, 120, 160, 200])
def test_held_objects_leave_not_one_byte(split: int) -> None:
    last = answer(b"x" * 100 + EICAR + b"y" * 100)
    head = last.index(b"\r\n\r\n") + 4
    driven = exchange([(UP, GET), (DOWN, last[: head + split]), (DOWN, last[head + split :])], HOLD)
    assert driven.cut is not None
    assert driven.cut.reason is DropReason.MALWARE
    assert len(driven.out[DOWN]) <= head
    clean = exchange([(UP, GET), (DOWN, answer(b"x" * 300))], HOLD)
    assert clean.out[DOWN] == answer(b"x" * 300)


def test_a_binary_object_is_never_delivered_whole_before_it_is_judged() -> None:
    """Its end may be announced later than its last byte: 0 CRLF CRLF in a segment of its own."""
    shell = b"\0\1binary <?php eval($_POST['x']); ?>"  # only YARA knows this one
    whole = answer(chunked(shell, 1000), b"Transfer-Encoding: chunked", length=False)
    driven = Driven().feed(UP, GET).feed(DOWN, whole[:-5])
    assert len(driven.out[DOWN]) < whole.index(shell) + len(shell)
    driven.feed(DOWN, whole[-5:])
    assert driven.cut is not None
    assert driven.cut.check == "yara.php_shell"


def test_a_binary_stream_that_pauses_is_judged_and_goes_on() -> None:
    clean = b"\0\1\2 a message of a protocol over HTTP"
    head = answer(b"", b"Transfer-Encoding: chunked", length=False)
    piece = b"%x\r\n%s\r\n" % (len(clean), clean)
    driven = Driven().feed(UP, GET).feed(DOWN, head + piece)
    assert len(driven.out[DOWN]) < len(head + piece)
    driven.pause(DOWN)
    assert driven.out[DOWN] == head + piece
    bad = b"\0<?php eval($_POST['x']); ?>"
    driven.feed(DOWN, b"%x\r\n%s\r\n" % (len(bad), bad)).pause(DOWN)
    assert driven.cut is not None
    assert len(driven.out[DOWN]) <= len(head + piece)


def test_event_streams_are_not_delayed() -> None:
    head = answer(b"", b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked", length=False)
    driven = Driven().feed(UP, GET).feed(DOWN, head)
    for number in range(5):
        event = b"data: %d\n\n" % number
        driven.feed(DOWN, b"%x\r\n%s\r\n" % (len(event), event))
        assert driven.out[DOWN] == driven.sent[DOWN]


def test_two_ends_that_speak_two_protocols_are_refused() -> None:
    driven = exchange([(DOWN, b"\1\2\3 hello"), (UP, GET)])
    assert driven.checks == ["protocol-mismatch"]


@pytest.mark.parametrize(
    ("start", "spoken"),
    [
        (b"\0\0\0\x08\x04\xd2\x16\x2f", "other"),
        (b"SSH-2.0-x\r\n", "ssh"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"),
    ],
)
def test_a_rule_that_demands_http_refuses_everything_else(start: bytes, spoken: str) -> None:
    driven = exchange([(UP, start)], InspectionSpec(SPEC.detectors, protocol="http"))
    assert driven.cut is not None
    assert (driven.cut.check, driven.cut.reason) == ("protocol", DropReason.UNKNOWN_PROTOCOL)
    assert spoken in driven.cut.detail
    assert not driven.out[UP]


POST = b"POST / HTTP/1.1\r\nHost: h\r\n"
KEY = SECRET  # what follows it decides whether it is one


@pytest.mark.parametrize("between", [[b"\r"], [b"\r", b"\n", b"0", b"\r\n"]])
def test_a_match_in_doubt_stays_while_what_follows_has_no_content(between: list[bytes]) -> None:
    driven = Driven().feed(UP, POST + b"Transfer-Encoding: chunked\r\n\r\n14\r\n" + KEY)
    for piece in between:
        driven.feed(UP, piece)
        assert not driven.out[UP].endswith((KEY, KEY + b"\r", KEY + b"\r\n", KEY + b"\r\n0"))
    driven.feed(UP, b"\n0\r\n\r\n" if len(between) == 1 else b"\r\n")
    assert driven.cut is not None
    assert KEY not in driven.out[UP]


def test_pictures_of_a_camera_are_kept_only_where_objects_are_judged() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"
    picture = b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + bytes(1000) + b"\r\n"
    for detectors, wanted in (("secrets", []), ("malware", ["object"])):
        driven = Driven(InspectionSpec(frozenset({detectors})), replace(DEFAULT_LIMITS, object=5000))
        driven.feed(UP, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").feed(DOWN, head)
        for _ in range(9):
            driven.feed(DOWN, picture)
        assert driven.checks == wanted


def test_tells_how_much_of_objects_is_kept() -> None:
    body = zlib.compress(bytes(400_000) + random.randbytes(4_000))
    head = POST + b"Content-Type: application/zip\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n"
    driven = Driven().feed(UP, head % len(body) + body[:-1])
    assert driven.inspector.kept > 400_000
    (job,) = driven.inspector.feed(UP, body[-1:]).jobs
    assert len(job.data) == 404_000
    assert driven.inspector.kept == 404_000 + len(body)  # it is kept as it was sent, too
    driven.inspector.judged(job.number, [])
    assert driven.inspector.kept == 0


@pytest.mark.parametrize("pieces", [1, 3])
def test_with_on_error_pass_what_could_not_be_read_is_scanned_before_it_goes(pieces: int) -> None:
    spec = InspectionSpec(SPEC.detectors, on_error=OnError.PASS)
    data = b"POST / HTTP/1.1\nHost: h\n\n" + KEY + b" "
    if pieces == 3:  # the parser holds an incomplete head when what can't be read comes
        data = b"POST / HTTP/1.1\r\nHost: h\r\nX: " + KEY + b" \r\nY : bad\r\n\r\n"
    driven = Driven(spec)
    size = -(-len(data) // pieces)
    for start in range(0, len(data), size):
        driven.feed(UP, data[start : start + size])
    assert driven.cut is not None
    assert driven.cut.check == "secrets.aws-access-key"
    assert KEY not in driven.out[UP]


PASS = InspectionSpec(SPEC.detectors, on_error=OnError.PASS)


@pytest.mark.parametrize(
    ("way", "pieces"),
    [
        (UP, [(DOWN, b"+OK hi\r\n"), (UP, b"GET / HTTP/1.1\r\nX: " + KEY + b" \r\n\r\n")]),
        (DOWN, [(UP, b"\1\2\3\4\n"), (DOWN, b"HTTP/1.1 200 OK\r\n\r\n" + KEY + b" ")]),
    ],
)
def test_with_on_error_pass_ends_that_speak_otherwise_are_scanned_before_they_go(
    way: Direction, pieces: list[tuple[Direction, bytes]]
) -> None:
    driven = Driven(PASS)
    for direction, data in pieces:
        driven.feed(direction, data)
    assert driven.cut is not None
    assert driven.cut.check == "secrets.aws-access-key"
    assert KEY not in driven.out[way]


def test_with_on_error_pass_a_match_may_begin_before_what_was_let_go() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nsome "
    content = b"text " + KEY + b" and more"
    content += b"." * (64 - 5 - len(content))
    driven = Driven(PASS).feed(UP, GET).feed(DOWN, head + content[:15])
    assert driven.out[DOWN].endswith(content[:15])
    driven.feed(DOWN, content[15:] + b"\r\nZZ\r\n")
    assert driven.cut is not None
    assert KEY not in driven.out[DOWN]


def test_with_on_error_pass_nothing_stays_for_a_channel_that_is_read_no_more() -> None:
    form = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
    driven = Driven(PASS).feed(UP, form + b"14\r\n" + KEY).feed(UP, b"\r\nZZ\r\n")
    assert driven.cut is not None  # it is settled: nothing follows that would make it harmless


def test_with_on_error_pass_a_parse_error_is_told_and_the_rest_scanned_as_bytes() -> None:
    spec = InspectionSpec(SPEC.detectors, on_error=OnError.PASS)
    broken = b"HTTP/1.1 200 OK\nX: y\n\n"
    driven = Driven(spec).feed(UP, GET).feed(DOWN, broken)
    assert driven.cut is None
    assert driven.checks == ["http-line-end"]
    assert driven.out[DOWN] == broken
    driven.feed(DOWN, SECRET + b" ")
    assert driven.cut is not None
    assert driven.cut.check == "secrets.aws-access-key"


@pytest.mark.parametrize(
    "start", [b"GE", b"request 5", b"G", b"\0", b"Question 7 of", b"Q", b"get /x", b"SSH"]
)
def test_beginnings_that_may_be_several_things_go_on_at_once(start: bytes) -> None:
    assert Driven().feed(UP, start).out[UP] == start
    assert exchange([(UP, start)]).out[UP] == start


def test_a_beginning_that_comes_slowly_is_read_as_what_it_turns_out_to_be() -> None:
    driven = Driven()
    for at in range(4):
        driven.feed(UP, GET[at : at + 1]).pause(UP)
    driven.feed(UP, GET[4:])
    assert driven.inspector.protocol == "http"
    assert driven.feed(UP, GET).out[UP] == GET * 2
    assert driven.cut is None
    driven = Driven().feed(UP, b"get").pause(UP).feed(UP, b" /x HT").pause(UP)
    assert driven.feed(UP, b"TP/1.1\r\n\r\n").cut is not None  # as it is when it comes in one piece
    assert bytes(driven.out[UP]) == b"get /x HT"


def test_what_is_forbidden_does_not_pass_while_the_protocol_is_unknown() -> None:
    for at in range(len(SECRET)):
        whole = b"key " + SECRET + b" "
        driven = Driven().feed(UP, whole[: 4 + at]).pause(UP).feed(UP, whole[4 + at :])
        assert driven.cut is not None
        assert len(driven.out[UP]) < 4 + len(SECRET)


def test_where_a_rule_demands_a_protocol_an_undecided_beginning_waits_until_it_is_decided() -> None:
    demands = InspectionSpec(SPEC.detectors, protocol="http")
    driven = Driven(demands).feed(UP, b"GE").pause(UP)
    assert not driven.out[UP]
    assert driven.feed(UP, GET[2:]).out[UP] == GET
    for end in (Driven.end, lambda driven, way: driven.feed(way, b"\nthese are other bytes")):
        driven = Driven(demands).feed(UP, b"GE").pause(UP)
        end(driven, UP)
        assert driven.checks == ["protocol"]
        assert not driven.out[UP]


def test_a_match_that_only_the_next_byte_decides_waits_for_it_or_for_a_pause() -> None:
    card = b"\0\1 pay 4111111111111111"
    for after, cut in ((b" now", True), (b"2345678 now", False)):
        driven = Driven().feed(UP, card)
        assert driven.cut is None
        assert not driven.out[UP]
        driven.feed(UP, after)
        assert (driven.cut is not None) is cut
    assert Driven().feed(UP, card).pause(UP).cut is not None
    assert exchange([(UP, card)]).cut is not None


def test_where_one_end_speaks_another_protocol_the_other_may_not_become_a_known_one() -> None:
    driven = exchange([(DOWN, b"\1\2\3 hello"), *((UP, GET[at : at + 1]) for at in range(len(GET)))])
    assert driven.checks == ["protocol-mismatch"]
