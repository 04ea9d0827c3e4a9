"""Bodies that say more than their bytes or their label: forms, JSON, fields, multiparts that somebody takes for one file."""

import json
import zlib
from itertools import pairwise, product
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.inspection.coding.json_text import JsonText
from filters.inspection.spec import InspectionSpec
from tests.filters.inspection.drive import DOWN, EICAR, GET, SECRET, UP, Driven, answer, exchange
from tests.filters.inspection.fingerprints.documents import docx
from tests.filters.inspection.test_archive_disguises import written
from tests.filters.inspection.test_objects import tarred, zipped

KEY = SECRET.decode()
POST = b"POST /x HTTP/1.1\r\nHost: h\r\n"
PART = b"--b\r\nContent-Type: text/plain\r\n\r\nfine\r\n--b--\r\n"
FILES = {
    "zip": zipped({"a": EICAR}),
    "tar.gz": tarred({"a": EICAR}),
    "7z": written("7zip", EICAR),
    "gzip": zlib.compress(EICAR, wbits=31),
}
LABELS = (b"multipart/mixed; boundary=b", b"multipart/form-data; boundary=b", b"Multipart/Related; Boundary=\"b\"")  # fmt: skip


def posted(body: bytes, *fields: bytes) -> bytes:
    return POST + b"".join(one + b"\r\n" for one in fields) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def checks(body: bytes, typed: bytes, *, size: int = 0) -> set[str]:
    """What is found in a body, as an answer and as a request."""
    field, found = b"Content-Type: " + typed, []
    for way, whole in ((DOWN, answer(body, field)), (UP, posted(body, field))):
        step = size or len(whole)
        pieces = [(way, whole[at : at + step]) for at in range(0, len(whole), step)]
        found.append(set(exchange([(UP, GET), *pieces] if way is DOWN else pieces).checks))
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("label", LABELS)
def test_files_around_the_parts_of_a_multipart_are_judged(label: bytes) -> None:
    for kind, data in FILES.items():
        assert checks(data + b"\r\n" + PART, label), kind
        if kind in {"zip", "7z"}:  # programs look for these behind something else
            assert checks(PART + data, label) & {"malware.eicar", "archive-broken"}, kind
    held = zipped({"a": EICAR, "b": PART}, compresslevel=0)
    assert checks(held, label)
    assert checks(PART, label) == set()
    assert checks(b"This is a message with several parts.\r\n" + PART + b"\r\n", label) == set()


def test_a_program_with_a_multiparts_label_is_a_program() -> None:
    spec = InspectionSpec(frozenset(), deny_types=frozenset({"executable"}))
    said = answer(b"MZ" + bytes(300) + b"\r\n" + PART, b"Content-Type: " + LABELS[0])
    assert exchange([(UP, GET), (DOWN, said)], spec).checks == ["object-type"]
    assert exchange([(UP, GET), (DOWN, answer(PART, b"Content-Type: " + LABELS[0]))], spec).checks == []


PDF = b"%PDF-1.7: x\r\n\r\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\r\ntrailer<</Root 1 0 R>>\r\n%%EOF\r\n"


@pytest.mark.parametrize("typed", [b"message/rfc822", b"Message/RFC822 ; x=y", b"message/rfc822x"])
def test_rejects_files_of_a_type_with_a_mails_label(typed: bytes) -> None:
    denied = InspectionSpec(frozenset(), deny_types=frozenset({"executable", "document", "script"}))
    only_text = InspectionSpec(frozenset(), allow_types=frozenset({"text", "application/octet-stream"}))
    field = b"Content-Type: " + typed
    for data in (PDF, b"MZ: " + bytes(54) + b"\r\n\r\n" + bytes(300)):
        for spec in (denied, only_text):
            assert exchange([(UP, GET), (DOWN, answer(data, field))], spec).checks == ["object-type"]
    shell = b"#!/bin/sh:\r\n\r\necho\r\n"
    assert exchange([(UP, GET), (DOWN, answer(shell, field))], denied).checks == ["object-type"]


def test_mails_pass_where_types_are_denied_or_allowed() -> None:
    denied = InspectionSpec(frozenset(), deny_types=frozenset({"executable", "document", "archive"}))
    only_text = InspectionSpec(frozenset(), allow_types=frozenset({"text"}))
    for first in (b"From: a@b", b"Received: from a by b; now", b"DKIM-Signature: v=1", b"X-Y: z"):
        for text in (b"import os\r\ndef f():\r\n    return 1\r\n", b"<html><body>hi</body></html>", b"hi"):
            mail = first + b"\r\nContent-Type: text/plain\r\n\r\n" + text + b"\r\n"
            for spec in (denied, only_text):
                said = answer(mail, b"Content-Type: message/rfc822")
                assert exchange([(UP, GET), (DOWN, said)], spec).findings == []


def test_rejects_a_file_that_begins_like_another_boundary() -> None:
    spec = InspectionSpec(frozenset(), allow_types=frozenset({"image"}))
    for start, wanted in ((b"-- a script\r\nprint('x')\r\n", ["object-type"]), (b"", [])):
        image = PART.replace(b"text/plain\r\n\r\nfine", b"image/gif\r\n\r\nGIF89a" + bytes(40))
        said = answer(start + image, b"Content-Type: " + LABELS[0])
        assert exchange([(UP, GET), (DOWN, said)], spec).checks == wanted


def test_uploads_of_archives_pass() -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\nContent-Type: application/octet-stream\r\n\r\n%s\r\n--b--\r\n'
    for data in (
        zipped({"a": b"x", "b": b"y"}),
        tarred({"a.zip": zipped({"a": b"x"})}, "w:"),
        written("7zip", b"x"),
    ):
        assert checks(form % data, LABELS[1]) == set()
    assert "malware.eicar" in checks(form % zipped({"a": EICAR}), LABELS[1])


WAYS = {
    "plain": KEY, "escaped": "".join(f"\\u{ord(one):04x}" for one in KEY), "capitals": "".join(f"\\u{ord(one):04X}" for one in KEY),
    "some": KEY[:4] + f"\\u{ord(KEY[4]):04x}" + KEY[5:], "behind a backslash": "\\\\ " + KEY[:3] + f"\\u{ord(KEY[3]):04x}" + KEY[4:], "line": "\\n" + KEY,
}  # fmt: skip


@pytest.mark.parametrize(
    "typed",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"application/vnd.api+json",
        b"application/x-ndjson",
        b"text/json",
    ],
)
def test_a_secret_in_json_is_found_however_it_is_escaped(typed: bytes) -> None:
    for (name, text), size in product(WAYS.items(), (0, 1, 7)):
        body = b'{"key": "' + text.encode() + b'", "more": "\\/\\"x"}'
        assert checks(body, typed, size=size) == {"secrets.aws-access-key"}, (name, size)
    for text in ("\\u0041BC", "\\", "\\u", "\\u00", "C:\\\\u0041", "\\ud83d\\ude00"):
        assert checks(b'{"a": "' + text.encode() + b'"}', typed, size=1) == set(), text


@given(st.text(max_size=60), st.lists(st.integers(0, 400), max_size=6), st.booleans())
@settings(max_examples=200, deadline=None)
def test_json_text_is_what_json_says_in_any_pieces(text: str, cuts: list[int], ascii_only: bool) -> None:
    if any(0xD800 <= ord(one) < 0xE000 or ord(one) > 0xFFFF for one in text):
        return  # two halves of a character are none of ASCII
    data = json.dumps(text, ensure_ascii=ascii_only).encode()
    places = [0, *sorted(min(one, len(data)) for one in cuts), len(data)]
    reader = JsonText()
    said = b"".join(reader.feed(data[start:stop]) for start, stop in pairwise(places))
    assert said + reader.finish() == b'"' + text.encode() + b'"'


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 66, 200])
def test_many_backslashes_are_counted(count: int) -> None:
    reader = JsonText()
    said = reader.feed(b"\\" * count) + reader.feed(b"u0041") + reader.finish()
    assert said == b"\\" * (count // 2) + (b"A" if count % 2 else b"u0041")


def test_escaped_fields_are_read_in_both_directions() -> None:
    escaped = "".join(f"%{ord(one):02X}" for one in KEY).encode()
    for field in (
        b"Cookie: k=" + escaped,
        b"Referer: http://h/?k=" + escaped,
        b"X-Key: " + escaped[:9] + SECRET[3:],
    ):
        assert exchange([(UP, POST + field + b"\r\nContent-Length: 0\r\n\r\n")]).checks == [
            "secrets.aws-access-key"
        ]
    for field in (b"Location: /?k=" + escaped, b"Set-Cookie: k=" + escaped + b"; Path=/"):
        assert exchange([(UP, GET), (DOWN, answer(b"", field))]).checks == ["secrets.aws-access-key"]
    ordinary = quote("a text/with=signs & ümlauts 100 %").encode()
    assert exchange([(UP, POST + b"Cookie: k=" + ordinary + b"\r\nContent-Length: 0\r\n\r\n")]).checks == []


@pytest.mark.parametrize("run", [1, 3, 9])
def test_a_secret_that_a_document_holds_in_pieces_is_found(run: int) -> None:
    assert "secrets.aws-access-key" in checks(
        docx(b"The key: " + SECRET + b" is new.", run=run), b"application/octet-stream"
    )
    assert (
        checks(docx(b"There is no key here, and nothing else.", run=run), b"application/octet-stream")
        == set()
    )
    page = b"<html><p>" + b"".join(b"&#%d;" % one for one in SECRET) + b"</p></html>"
    assert "secrets.aws-access-key" in checks(zipped({"a.html": page}), b"application/zip")


UPGRADE = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
AGREED = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def frames(data: bytes, size: int, code: int) -> bytes:
    """A message in frames of some size."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    firsts = [code, *([0] * (len(pieces) - 1))]
    firsts[-1] |= 0x80
    heads = [
        bytes([first, len(one)] if len(one) < 126 else [first, 126, *len(one).to_bytes(2, "big")])
        for first, one in zip(firsts, pieces, strict=True)
    ]
    return b"".join(head + one for head, one in zip(heads, pieces, strict=True))


@pytest.mark.parametrize("size", [1, 5, 4000])
def test_files_in_websocket_messages_are_judged(size: int) -> None:
    for kind, data in FILES.items():
        driven = (
            Driven()
            .feed(UP, UPGRADE)
            .feed(DOWN, AGREED)
            .feed(DOWN, frames(b"hello", size, 2) + frames(data, size, 2))
        )
        assert "malware.eicar" in driven.checks, kind
        assert len(driven.out[DOWN]) < len(driven.sent[DOWN])
    spec = InspectionSpec(frozenset(), deny_types=frozenset({"executable"}))
    driven = Driven(spec).feed(UP, UPGRADE).feed(DOWN, AGREED).feed(DOWN, frames(b"MZ" + bytes(90), size, 2))
    assert driven.checks == ["object-type"]


@pytest.mark.parametrize("size", [1, 5, 4000])
def test_ordinary_websocket_messages_pass(size: int) -> None:
    said = b"".join(
        frames(one, size, code)
        for one in (b"PK is a word", b"x", zipped({"a": b"fine"}), bytes(500), b"MZ\0")
        for code in (1, 2)
        if code == 2 or one.isascii()
    )
    driven = Driven().feed(UP, UPGRADE).feed(DOWN, AGREED).feed(DOWN, said + b"\x88\0")
    assert driven.findings == []
    assert driven.out[DOWN] == driven.sent[DOWN]
