"""Protected documents in transit: found however they travel, and their last byte stays."""

import base64
import gzip
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from filters.inspection.assignments import Assignment, Assignments
from filters.inspection.datagrams import Datagrams
from filters.inspection.finding import Direction, Finding
from filters.inspection.fingerprints.parameters import RUN
from filters.inspection.spec import Hold, InspectionSpec
from filters.reason import DropReason
from tests.filters.inspection.drive import DOWN, GET, UP, Driven, answer, chunked
from tests.filters.inspection.fingerprints.documents import (
    SPEC,
    docx,
    drive,
    noise,
    print_set,
    prose,
    toolbox,
)
from tests.filters.inspection.test_datagrams import A, B, udp
from tests.filters.inspection.test_http import CODERS
from tests.filters.inspection.test_objects import tarred, zipped
from tests.filters.inspection.test_protocols import smtp

PLAN = prose(1)
PROTECTED = print_set({"plan": PLAN})
PART = PLAN[1111 : 1111 + RUN]
Way = Callable[[bytes], list[tuple[Direction, bytes]]]


def posted(body: bytes, *fields: bytes) -> bytes:
    lines = [b"POST /x HTTP/1.1", b"Host: h", *fields, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def mailed(data: bytes) -> list[tuple[Direction, bytes]]:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@h", "b@h", "hello"
    message.set_content("see the attachment\n")
    message.add_attachment(data, "application", "octet-stream", filename="x.bin")
    return smtp(message.as_bytes().replace(b"\n", b"\r\n"))


WAYS: dict[str, Way] = {
    "bytes up": lambda part: [(UP, b"\0\1" + noise(1, 300) + part)],
    "bytes down": lambda part: [(UP, b"\0\1hello"), (DOWN, noise(1, 300) + part)],
    "posted": lambda part: [(UP, posted(b"before " + part + b" after"))],
    "answered": lambda part: [(UP, GET), (DOWN, answer(b"before " + part + b" after"))],
    "chunked": lambda part: [
        (UP, GET), (DOWN, answer(chunked(part), b"Transfer-Encoding: chunked", length=False)),
    ],
    "gzip": lambda part: [(UP, GET), (DOWN, answer(CODERS["gzip"](part), b"Content-Encoding: gzip"))],
    "gzip up": lambda part: [(UP, posted(CODERS["gzip"](part), b"Content-Encoding: gzip"))],
    "br": lambda part: [(UP, GET), (DOWN, answer(CODERS["br"](part), b"Content-Encoding: br"))],
    "zip": lambda part: [(UP, GET), (DOWN, answer(zipped({"fine": b"fine", "x": part})))],
    "tar.gz up": lambda part: [(UP, posted(tarred({"inner.zip": zipped({"x": part})})))],
    "gz in a gzip coding": lambda part: [
        (UP, GET), (DOWN, answer(CODERS["gzip"](gzip.compress(noise(1, 50) + part)), b"Content-Encoding: gzip")),
    ],
    "base64 in mail": mailed,
    "zip in mail": lambda part: mailed(zipped({"x.txt": part})),
    "a form": lambda part: [
        (UP, posted(
            b'--xyz\r\nContent-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
            + base64.encodebytes(part).replace(b"\n", b"\r\n") + b"\r\n--xyz--\r\n",
            b"Content-Type: multipart/form-data; boundary=xyz",
        )),
    ],
    "an office document": lambda part: [(UP, GET), (DOWN, answer(docx(part)))],
}  # fmt: skip


def carried(way: Way, part: bytes, size: int, spec: InspectionSpec = SPEC) -> Driven:
    driven = drive(PROTECTED, spec)
    for direction, data in way(part):
        for at in range(0, len(data), size):
            driven.feed(direction, data[at : at + size])
    for direction in Direction:
        driven.end(direction)
    return driven


@pytest.mark.parametrize("size", [1, 7, 100, 1460, 1 << 20])
@pytest.mark.parametrize("way", list(WAYS))
def test_a_part_of_the_guaranteed_length_is_recognised(way: str, size: int) -> None:
    driven = carried(WAYS[way], PART, size)
    assert driven.cut is not None
    assert (driven.cut.check, driven.cut.reason) == ("fingerprints.plan", DropReason.DATA_LEAK)
    direction = driven.cut.direction
    assert direction is not None
    whole = b"".join(data for one, data in WAYS[way](PART) if one is direction)
    assert len(driven.out[direction]) < len(whole)
    assert PART not in driven.out[direction]


@pytest.mark.parametrize("way", list(WAYS))
def test_what_is_not_protected_passes_whole(way: str) -> None:
    other = prose(2, 3000)
    for size in (100, 1 << 20):
        driven = carried(WAYS[way], other, size)
        assert driven.findings == []
        for direction in Direction:
            assert driven.out[direction] == driven.sent[direction]


@pytest.mark.parametrize("start", range(0, len(PLAN) - RUN, 1171))
def test_the_last_byte_never_leaves_at_any_split(start: int) -> None:
    run = PLAN[start : start + RUN]
    for way in ("bytes up", "answered", "chunked", "base64 in mail"):
        pieces = WAYS[way](run)
        number, (direction, last) = max(enumerate(pieces), key=lambda one: len(one[1][1]))
        earlier = sum(len(data) for to, data in pieces[:number] if to is direction)
        ends = last.find(run) + RUN if run in last else len(last) - 5
        for split in range(1, len(last), 61):
            driven = drive(PROTECTED)
            for to, data in [
                *pieces[:number], (direction, last[:split]), (direction, last[split:]), *pieces[number + 1 :],
            ]:  # fmt: skip
                driven.feed(to, data)
            for one in Direction:
                driven.end(one)
            assert driven.cut is not None, (way, split)
            assert len(driven.out[direction]) - earlier < ends, (way, split)


def test_held_objects_leave_not_one_byte() -> None:
    driven = carried(WAYS["answered"], PART, 50, InspectionSpec(SPEC.detectors, hold=Hold.OBJECT))
    assert driven.cut is not None
    assert b"before" not in driven.out[DOWN]


def test_an_office_document_saved_anew_and_its_text_alone_are_recognised() -> None:
    made = print_set({"letter": docx(PLAN)})
    judge = drive(made).judge
    for data in (docx(PLAN), docx(PLAN, run=4), zipped({"x.txt": PLAN.replace(b"\n\n", b"\n")})):
        assert {one.check for one in judge.judge(data, "x")} == {"fingerprints.letter"}
    assert [one.check for one in judge.text(docx(PLAN), "x")] == ["fingerprints.letter"]


def test_office_documents_of_the_same_program_are_not_accused() -> None:
    judge = drive(print_set({"letter": docx(PLAN), "note": docx(prose(3))})).judge
    for seed in range(10, 20):
        other = docx(prose(seed))
        assert [*judge.judge(other, "x"), *judge.text(other, "x")] == []


def test_a_rule_that_does_not_ask_for_it_lets_a_document_pass() -> None:
    driven = drive(PROTECTED, InspectionSpec(frozenset({"secrets"})))
    driven.feed(UP, b"\0\1" + PLAN)
    assert driven.findings == []
    assert bytes(driven.out[UP]) == b"\0\1" + PLAN


def test_pieces_of_an_object_that_can_not_be_judged_are_refused() -> None:
    part = answer(PLAN[:100], b"Content-Range: bytes 0-99/6000", status=b"HTTP/1.1 206 Partial Content")
    assert drive(PROTECTED).feed(UP, GET).feed(DOWN, part).checks == ["partial-object"]


@pytest.mark.parametrize("size", [60, 200, 1400])
@pytest.mark.parametrize("back", [False, True])
def test_documents_in_datagrams_are_recognised_and_the_rest_passes(size: int, back: bool) -> None:
    box = toolbox(PROTECTED)
    assignments = Assignments((Assignment(17, A, B, 1, 65535, "r", SPEC),))
    for text, checks in ((PLAN[:3000], {"fingerprints.plan"}), (prose(2, 3000), set())):
        told: list[Finding] = []
        datagrams = Datagrams(box.judge, box.lacking, lambda _flow, finding, told=told: told.append(finding))
        assert datagrams.verdict(udp(b"hello", 9), assignments, 0.0) is None
        reasons = [
            datagrams.verdict(udp(text[at : at + size], 9, answer=back), assignments, 0.0)
            for at in range(0, len(text), size)
        ]
        assert {one.check for one in told} == checks
        assert (reasons[-1] is DropReason.DATA_LEAK) is bool(checks)
