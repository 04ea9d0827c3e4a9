"""Binary messages that are files, however their protocol is spoken: judged as HTTP's bodies are, and everything else passes."""

import gzip
import os
import tempfile
import time
from collections import Counter

import libarchive
import pytest
import zstandard

from filters.inspection.finding import Direction
from filters.inspection.objects import holding
from filters.inspection.objects.archive_kinds import begins_as_archive
from filters.inspection.objects.judge import Judge
from filters.inspection.spec import Hold, InspectionSpec, OnError
from tests.filters.inspection.drive import DOWN, EICAR, SECRET, SPEC, UP, Driven
from tests.filters.inspection.suricata.drive import follow, rule, ruleset
from tests.filters.inspection.test_archive_disguises import written
from tests.filters.inspection.test_archive_signs import rar5, skipped, v7
from tests.filters.inspection.test_body_disguises import AGREED, UPGRADE, frames
from tests.filters.inspection.test_objects import tarred, zipped


def filtered(form: str, pack: str) -> bytes:
    out: list[bytes] = []

    def write(data: bytes) -> int:
        out.append(bytes(data))
        return len(data)

    with libarchive.custom_writer(write, form, pack) as archive:
        archive.add_file_from_memory("a.com", len(EICAR), EICAR)
    return b"".join(out)


PNG = b"\x89PNG\r\n\x1a\n" + bytes([0, 0, 0, 13]) + b"IHDR" + bytes([0, 0, 0, 1] * 2) + b"\x08\2" + bytes(30)
ZIP = zipped({"a": EICAR})
FILES = {
    "tar.Z": filtered("gnutar", "compress"), "tar.lz": filtered("gnutar", "lzip"), "cpio.lzma": filtered("cpio", "lzma"), "tar of zip": tarred({"x.zip": ZIP}, "w:"),
    "old tar": v7(b"a", ZIP, signed=True), "skipped": skipped(b"x") + zstandard.compress(ZIP), "zip behind text": b"words " * 900 + ZIP,
    "7z behind text": b"words " * 900 + written("7zip", EICAR), "rar behind noise": bytes(range(256)) * 9 + rar5(b"a", gzip.compress(EICAR, mtime=0)),
}  # fmt: skip


def agreed(spec: InspectionSpec = SPEC) -> Driven:
    return Driven(spec).feed(UP, UPGRADE).feed(DOWN, AGREED)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [7, 100_000])
def test_finds_what_is_in_any_archive(name: str, size: int) -> None:
    driven = agreed().feed(DOWN, frames(FILES[name], size, 2))
    assert "malware.eicar" in driven.checks
    assert driven.out[DOWN] != driven.sent[DOWN]
    pieces, sent = agreed(), frames(FILES[name], size, 2)
    for at in range(0, len(sent), 1000):
        pieces.feed(DOWN, sent[at : at + 1000]).pause(DOWN)
        if pieces.cut:
            break
    assert "malware.eicar" in pieces.checks
    assert len(pieces.out[DOWN]) < len(AGREED + sent)


@pytest.mark.parametrize(
    "data",
    [b"\xcf\xfa\xed\xfe" + bytes(90), b"{\\rtf1 hello}" + b"x" * 50, b"#!/bin/sh\necho\n", PNG],
)  # fmt: skip
def test_rejects_a_message_of_a_denied_type(data: bytes) -> None:
    spec = InspectionSpec(frozenset(), deny_types=frozenset({"executable", "document", "script", "image"}))
    for size in (1, 4000):
        driven = agreed(spec).feed(DOWN, frames(data, size, 2))
        assert set(driven.checks) == {"object-type"}


def test_messages_that_are_no_files_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: Counter[int] = Counter()
    judge = Judge.judge
    monkeypatch.setattr(
        Judge, "judge", lambda self, data, *more, **named: judged.update([len(data)]) or judge(self, data, *more, **named)
    )  # fmt: skip
    only_images = InspectionSpec(frozenset({"malware"}), allow_types=frozenset({"image"}))
    driven = agreed(only_images)
    for size in (1, 2, 20, 300, 20_000):
        for data in (b"\x08" + os.urandom(size), b"words " * size, bytes(size)):
            driven.feed(DOWN, frames(data, 4000, 2))
            assert driven.out[DOWN] == driven.sent[DOWN]
    assert not judged
    driven.feed(DOWN, frames(PNG, 4000, 2))
    assert judged == {len(PNG): 1}
    assert driven.findings == []


def test_asks_once_what_a_small_message_is_and_opens_no_file_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        holding, "begins_as_archive", lambda head: asked.append(len(head)) or begins_as_archive(head)
    )
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", None)
    driven = agreed().feed(DOWN, frames(b"\x08" + bytes(range(40, 80)), 4000, 2) * 50)
    assert driven.out[DOWN] == driven.sent[DOWN]
    assert asked == [41] * 50


@pytest.mark.parametrize("detectors", [{"rules"}, {"rules", "malware"}])
@pytest.mark.parametrize("size", [1, 5, 4000])
def test_of_binary_messages_only_files_are_bodies_to_rules(detectors: set[str], size: int) -> None:
    rules = ruleset(
        rule('file.data; content:"marked"; content:"end"; endswith;', "alert http any any -> any any")
    )

    def found(*messages: bytes) -> list[str]:
        sent = b"".join(frames(one, size, 2) for one in messages)
        said = [(UP, UPGRADE), (DOWN, AGREED), *((DOWN, sent[at : at + 9]) for at in range(0, len(sent), 9))]
        whole = [(UP, UPGRADE), (DOWN, AGREED), (DOWN, sent)]
        first, second = (
            follow(rules, one, spec=InspectionSpec(frozenset(detectors))).checks for one in (said, whole)
        )
        assert first == second
        return [one for one in first if one.startswith("suricata.")]

    chat = b"\x08\x01 marked, and more words up to the end"
    assert found(chat, b"words " * 90 + b"marked end") == []
    for file in (
        b"%PDF marked",
        b"MZ marked" + bytes(4000),
        gzip.compress(b"x", mtime=0) + b"marked",
        b"PK\3\4" + b" and more marked",
    ):
        assert found(chat, file + b" end", chat) == ["suricata.1:1"]
        assert found(file, b"end") == []


def test_with_hold_a_message_that_is_no_file_goes_when_it_is_whole() -> None:
    driven = agreed(InspectionSpec(frozenset({"malware"}), hold=Hold.OBJECT))
    sent = frames(b"\x08" * 300, 100, 2)
    driven.feed(DOWN, sent[:250])
    assert len(driven.out[DOWN]) == len(AGREED)
    driven.feed(DOWN, sent[250:])
    assert driven.out[DOWN] == driven.sent[DOWN]


@pytest.mark.parametrize("code", [1, 2])
def test_many_small_frames_cost_no_more_than_one(code: int) -> None:
    data = frames(b":" * 80_000, 1, code)
    start = time.process_time()
    assert agreed().feed(DOWN, data).findings == []
    assert time.process_time() - start < 1.5
    told: list[tuple[str, bytes]] = []
    driven = agreed()
    monitor = driven.inspector.text
    driven.inspector.text = lambda way, channel, data: (told.append((channel, data)), monitor(way, channel, data))[1]  # type: ignore[method-assign, func-returns-value]  # fmt: skip
    driven.feed(DOWN, data)
    assert [len(one) for _, one in told] == [80_000]


@pytest.mark.parametrize("first", [0x81, 0x82, 0x89])
def test_very_many_tiny_messages_are_looked_through_together(first: int) -> None:
    tiny = bytes([first, 2]) + b"::"
    start = time.process_time()
    assert agreed().feed(DOWN, tiny * 60_000).findings == []
    assert time.process_time() - start < 4
    key = bytes([first, len(SECRET)]) + SECRET
    driven = agreed()
    driven.feed(DOWN, tiny * 5000 + key + tiny * 9)
    assert driven.checks == ["secrets.aws-access-key"]
    halves = agreed().feed(
        DOWN, tiny * 5000 + b"".join(bytes([first, 10]) + one for one in (SECRET[:10], SECRET[10:]))
    )
    assert halves.findings == []
    cut = agreed().feed(DOWN, tiny * 5000 + key[:9]).feed(DOWN, key[9:])
    assert cut.checks == ["secrets.aws-access-key"]


def test_with_on_error_pass_what_stands_before_a_broken_frame_is_scanned() -> None:
    spec = InspectionSpec(SPEC.detectors, on_error=OnError.PASS)
    mask = b"\1\2\3\4"
    text = b"key " + SECRET + b" "
    masked = bytes(one ^ mask[at % 4] for at, one in enumerate(text))
    driven = agreed(spec).feed(
        Direction.TO_SERVER, bytes([0x01, 0x80 | len(text)]) + mask + masked + b"\x8f\0"
    )
    assert "secrets.aws-access-key" in driven.checks
    assert driven.cut is not None
