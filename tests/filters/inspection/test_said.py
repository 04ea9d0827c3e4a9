"""What texts say beside their bytes: JSON's escapes whatever the label, ISO-2022's, and sets under all their names."""

import base64
import json
import random
import time
import tracemalloc
import zlib
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.inspection.coding.charset import foreign, named
from filters.inspection.coding.decoder import PIECE, Stack
from filters.inspection.coding.json_text import JsonText
from filters.inspection.coding.said import Said
from filters.inspection.limits import DEFAULT_LIMITS
from filters.inspection.patterns.pattern import REACH
from tests.filters.inspection.drive import (
    DOWN,
    EICAR,
    SECRET,
    SPEC,
    UP,
    Driven,
    exchange,
    toolbox,
)
from tests.filters.inspection.test_body_disguises import AGREED, UPGRADE, checks, frames
from tests.filters.inspection.test_objects import zipped
from tests.filters.inspection.test_protocols import smtp

KEY = "secrets.aws-access-key"


def readings(data: bytes) -> list[bytes]:
    """What a whole text says beside its bytes, in each way to read it."""
    said, whole = Said(), dict[str, bytes]()
    for how, text in (*said.feed(data), *said.finish()):
        whole[how] = whole.get(how, b"") + (text or b"")
    return list(whole.values())


ESCAPED = b'{"key": "' + b"".join(b"\\u%04x" % one for one in SECRET) + b'"}'
JUMPING = b"".join(b"\x1b(B" + bytes([one]) for one in SECRET)
MANY = "日本語のテキスト。" * 40


@pytest.mark.parametrize(
    "typed",
    [
        b"", b"text/event-stream", b"application/x-amz-json-1.1", b"application/jsonl", b"text/plain", b"application/octet-stream",
        b"application/x-www-form-urlencoded", b"application/json; charset=utf-8",
    ],
)  # fmt: skip
def test_finds_what_json_escapes_whatever_the_label(typed: bytes) -> None:
    for before in (b"", b"data: ", b"words " * 400):
        for size in (0, 1, 700):
            assert checks(before + ESCAPED, typed, size=size) == {KEY}
    assert checks(b'{"key": "' + SECRET[:4] + b"\\/" + b'", "more": "\\u673a\\u5bc6"}', typed) == set()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_finds_what_wide_json_escapes(encoding: str) -> None:
    wide = ESCAPED.decode().encode(encoding)
    for typed in (b"application/json", b"application/json; charset=" + encoding.encode(), b"text/plain"):
        for size in (0, 1):
            assert checks(wide, typed, size=size) == {KEY}


def test_finds_json_in_a_form() -> None:
    form = b"".join(b"%%%02x" % one for one in ESCAPED)
    assert checks(b"data=" + form, b"application/x-www-form-urlencoded") == {KEY}


def test_finds_json_in_a_foreign_set() -> None:
    coded = (MANY + ESCAPED.decode()).encode("cp037", "replace")
    assert checks(coded, b"application/json; charset=cp037") == {KEY}


def test_finds_json_in_websocket_messages_mails_and_archives() -> None:
    for size in (1, 5, 4000):
        driven = Driven().feed(UP, UPGRADE).feed(DOWN, AGREED).feed(DOWN, frames(ESCAPED, size, 1))
        assert set(driven.checks) == {KEY}
    mail = b"Content-Type: application/json\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert KEY in exchange(smtp(mail + base64.encodebytes(ESCAPED).replace(b"\n", b"\r\n"))).checks
    judge = toolbox().judge(SPEC)
    assert {one.check for one in judge.judge(zipped({"a.json": ESCAPED}), "x")} == {KEY}
    part = b"--b\r\nContent-Type: application/json\r\n\r\n" + ESCAPED + b"\r\n--b--\r\n"
    assert checks(part, b"multipart/mixed; boundary=b") == {KEY}


@pytest.mark.parametrize(
    "typed", [b"", b"text/html; charset=iso-2022-jp", b"text/html", b"text/plain; charset=csISO2022JP"]
)
def test_finds_text_between_escapes_that_change_nothing(typed: bytes) -> None:
    for size in (0, 1, 5):
        for jump in (b"\x1b(B", b"\x1b(J", b"\x1b$B\x1b(B", b"\x1b$@\x1b(J\x1b(B"):
            body = b"key " + b"".join(jump + bytes([one]) for one in SECRET) + b"\n"
            assert checks(body, typed, size=size) == {KEY}
    assert "malware.eicar" in checks(b"".join(b"\x1b(B" + bytes([one]) for one in EICAR), typed)
    assert checks("機密の話です".encode("iso-2022-jp") + b"\x1b[1mbold\x1b[0m", typed) == set()


def test_finds_korean_text_whose_shifts_change_nothing() -> None:
    body = b"\x1b$)C" + b"".join(b"\x0f" + bytes([one]) for one in SECRET) + b" "
    assert body.decode("iso2022_kr").startswith(SECRET.decode())
    assert checks(body, b"text/plain; charset=iso-2022-kr") == {KEY}


@pytest.mark.parametrize(
    "label",
    [
        "charset=unicode", "charset=UCS-2", "charset=iso-10646-ucs-2", "charset=csunicode", "charset=unicodefeff", "charset=utf-16le", 'charset=" utf-16le"',
        "charset=utf-8; charset=utf-16le", "charset=utf-16le; charset=utf-8", "charset=utf-8, text/html; charset=utf-16le", "charset*=us-ascii''utf-16le", "charset = 'utf-16le'",
    ],
)  # fmt: skip
def test_finds_text_in_a_set_under_any_label(label: str) -> None:
    body = (MANY + SECRET.decode() + " ").encode("utf-16-le")
    assert checks(body, b"text/html; " + label.encode()) == {KEY}
    assert len(foreign("text/html; " + label)) == 1


def test_many_blanks_and_labels_cost_little() -> None:
    blanks = " " * 200_000  # minutes, were they tried again and again
    for label in (f"a;charset={blanks};", f"a;charset{blanks};", f'a;charset="{blanks};'):
        assert foreign(label) == []
    assert len(foreign(f'a;charset={blanks}"{blanks}utf-16le"')) == 1
    assert (
        len(foreign("; ".join(f"charset={one}" for one in ("utf-7", "hz", "cp037", "utf-32le", "cp500"))))
        == 2
    )


@pytest.mark.parametrize("label", ["iso-2022-kr", "iso-2022-cn", "iso-2022-jp", "hz", "utf-7"])
def test_broken_escapes_do_not_end_a_text(label: str) -> None:
    junk = b"\x1b(" + bytes(40) + b"\x1b$)\x0e\x1b~{+A\xff"
    for size in (1, 7, 99):
        assert checks(junk + SECRET + b" ", b"text/plain; charset=" + label.encode(), size=size) == {KEY}


def test_labels_of_sets_with_ascii_in_them_need_no_reader() -> None:
    for label in ("utf-8", "iso-8859-1", "shift_jis", "gb18030", "windows-1252", "none", ""):
        assert foreign(f"text/html; charset={label}") == []
        assert named(label) is None
    assert named("unicodeFFFE") is not None
    assert foreign("text/html") == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"\\u0041",
                b"\\n",
                b"\\",
                b"u00",
                b"word ",
                b'{"',
                b"\x1b(B",
                b"\x1b$B",
                b"\x1b",
                b"(J",
                b"\0",
                b"\n",
            ]
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_cuts_change_nothing(words: list[bytes], cuts: list[int]) -> None:
    data = b"".join(words)
    places = sorted({min(one, len(data)) for one in cuts} | {0, len(data)})
    said, pieces = Said(), dict[str, bytes]()
    for how, text in (
        *(one for start, stop in pairwise(places) for one in said.feed(data[start:stop])),
        *said.finish(),
    ):
        pieces[how] = pieces.get(how, b"") + (text or b"")
    whole = list(readings(data))
    assert len(data) < REACH
    assert list(pieces.values()) == whole or sorted(pieces.values()) == sorted(whole)


def test_a_reading_begins_with_what_stands_before_it() -> None:
    said = Said()
    assert list(said.feed(b"x" * 2000)) == []
    ((how, text),) = said.feed(SECRET[:3] + b"\\u%04x" % SECRET[3])
    assert (how, text) == ("json", b"x" * (REACH - 3) + SECRET[:4])


def test_ordinary_text_and_noise_need_no_reading() -> None:
    for data in (
        b"C:\\dir\\users and \\usr \\u00",
        b"plain",
        bytes(range(256)) * 9,
        b"\x1b[1m",
        b"",
        b'{"a": "b"}',
    ):
        assert list(readings(data)) == []
    assert list(readings(json.dumps({"a": "ü"}).encode())) == ['{"a": "ü"}'.encode()]


def test_reads_what_is_near_signs_and_nothing_else() -> None:
    quiet = b"x" * (1 << 18)
    said = Said()
    told = list(said.feed(b"\\u0041 \x1b(B " + quiet))
    assert [(how, text is None) for how, text in told] == [
        ("json", False), ("json", True), ("sets", False), ("sets", True),
    ]  # fmt: skip
    assert all(len(text) < 6 * REACH for _, text in told if text)
    assert list(said.feed(quiet)) == list(said.finish()) == []
    assert list(said.feed(b"\\u0041")) == [("json", b"x" * REACH + b"A")]
    driven = Driven().feed(UP, b"\1\2\3 no protocol \\u0041")
    for data in (quiet, quiet, ESCAPED):
        driven.feed(UP, data)
    assert driven.checks == [KEY]


@pytest.mark.parametrize("gap", [0, REACH, 4 * REACH - 1, 4 * REACH, 4 * REACH + 1, 9 * REACH])
@pytest.mark.parametrize("size", [0, 1, 1000, 4 * REACH])
def test_finds_what_is_escaped_wherever_stretches_end(gap: int, size: int) -> None:
    for sign in (b"\\u0041", b"\x1b(B"):
        for filler in (b" ", b"\\", b"\x1b"):
            data = b"words " + sign + filler * gap + b" "
            assert checks(data + ESCAPED, b"text/plain", size=size) == {KEY}
            assert checks(data + JUMPING + b" ", b"text/plain", size=size) == {KEY}


URL = b'"dsn":"postgres:\\/\\/admin:s3cr3tPassw0rd@db.corp.net:5432\\/x"}\n'


@pytest.mark.parametrize("gap", [0, 1500, 2500, 4200, 30_000, 60_000])
def test_short_escapes_count_far_behind_a_long_one(gap: int) -> None:
    event = b'data: {"n":"Ren\\u00e9","pad":"' + b"w" * gap + b'",' + URL
    for size in (0, 1000):
        assert checks(event, b"text/event-stream", size=size) == {"secrets.url-password"}


def test_short_escapes_count_far_behind_the_last_of_many() -> None:
    for count, gap in ((1, 63_000), (10, 50_000), (20, 63_000), (22, 33_000)):
        text = b'x="' + (b"\\u00e9" + b"w" * 1700) * count + b'"\n' + b"q " * (gap // 2) + URL
        for size in (0, 4096):
            assert checks(text, b"text/plain", size=size) == {"secrets.url-password"}


@pytest.mark.parametrize("far", [b"", b"\\u00e9 " + b"word " * 1000])
@pytest.mark.parametrize("count", [1, 255, 256, 300, 2000])
def test_a_stretch_never_begins_amid_a_pair_of_backslashes(far: bytes, count: int) -> None:
    token = b"npm_a\\u0031B2c3D4e5F6" + b"a1B2c3D4e5F6" * 2
    pairs = b"\\\\" * count
    for size in (0, 1, 1000):
        text = b'data: {"a":"' + far + pairs + token + b' "}\n'
        assert checks(text, b"text/event-stream", size=size) == {"secrets.npm-token"}
        text = b'data: {"a":"' + far + pairs + b"\\u0041" + SECRET[1:] + b' "}\n'
        assert checks(text, b"text/event-stream", size=size) == {KEY}


@pytest.mark.parametrize("jump", [b"\x1b$)C", b"\x1b$)A", b"\x1bN", b"\x1b.F"])
def test_other_escapes_of_sets_count_far_behind_a_plain_one(jump: bytes) -> None:
    text = b"\x1b(B ok " + b"word " * 1000 + b" " + b"".join(jump + bytes([one]) for one in SECRET) + b" \n"
    assert any(SECRET in one for one in readings(text))


def test_a_sign_that_noise_has_by_chance_is_read_no_further_than_others() -> None:
    noise = random.Random(1).randbytes(1 << 20).replace(b"\x1b(", b"\x1b)").replace(b"\x1b.", b"\x1b,")
    for sign in (b"\x1b(B", b"\\u0041"):
        said, read = Said(), 0
        for at in range(0, 1 << 20, PIECE):
            piece = sign + noise[at : at + PIECE] if at == 0 else noise[at : at + PIECE]
            read += sum(len(text) for _, text in said.feed(piece) if text)
        assert 0 < read < 80 << 10


def test_signs_all_over_cost_little() -> None:
    for filler in (b"\x1b", b"\\u", b"\\", b"\\u\x1b"):
        for sign in (b"\x1b(B", b"\\u0041", b"\\u0041\x1b(B"):
            for distance in (2049, 4098):
                piece = ((filler * distance)[:distance] + sign) * 200
                said, began = Said(), time.process_time()
                for at in range(0, len(piece), PIECE):
                    list(said.feed(piece[at : at + PIECE]))
                assert (
                    time.process_time() - began < 0.15 * len(piece) / PIECE
                )  # 0.006 each; 0.18 with a step for each


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                r"\u0041",
                r"\u673a",
                r"\ud83d",
                r"\n",
                r"\t",
                r"\\",
                r"\/",
                r"\"",
                r"\b",
                "u0041",
                "/",
                "a",
                "n",
            ]
        )
    )
)
def test_both_ways_to_undo_escapes_say_the_same(words: list[str]) -> None:
    text = "".join(words).encode()
    assert JsonText().feed(b"\xc3\xa9" + text) == b"\xc3\xa9" + JsonText().feed(text)


def test_noise_behind_a_brace_is_no_json() -> None:
    noise = random.Random(1).randbytes(1 << 18)
    assert [how for how, _ in Said().feed(b"{" + noise) if how == "json"] == []


def test_finds_what_is_escaped_between_many_backslashes_in_little_time() -> None:
    for unit in (b"\\\\", b"\\/", b"\\\\\\n"):
        began = time.process_time()
        text = JsonText()
        for _ in range(64):
            text.feed(unit * (PIECE // len(unit)))
        assert time.process_time() - began < 1  # 0.25 s alone; a call for each of them took 1.8 s
    assert JsonText().feed(rb"\\\\u0041\u005cn\/\u0000\q") == b"\\\\u0041\\n/\0q"
    assert JsonText().feed(b"\xff\\u0041\xff") == b"\xfeA\xfe"  # no byte of text is taken for an escape


def test_finds_what_json_escapes_behind_a_prefix_that_its_label_explains() -> None:
    secret = b'{"key": "' + b"".join(b"\\" + SECRET[at : at + 1] for at in range(len(SECRET))) + b'"}'
    secret = secret.replace(b"\\N", b"N")  # this and the like are no letters
    for prefix in (b")]}'\n", b"for(;;);", b"cb(", b"\x1e"):
        assert checks(prefix + secret, b"application/json") == {KEY}
    assert checks(b"\x1e" + secret, b"text/plain") == {KEY}
    mail = b"Content-Type: application/json\r\n\r\n)]}'\r\n"
    assert KEY in exchange(smtp(mail + secret + b"\r\n")).checks


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_finds_wide_json_behind_a_character_with_a_backslash_in_it(encoding: str) -> None:
    for other in ("\u5c00", "\u4e5c", "\u5c5c"):
        wide = ('"some words: ' + other + "\\u0041" + SECRET[1:].decode() + ' "').encode(encoding)
        for size in (0, 1, 3):
            assert checks(wide, b"application/json", size=size) == {KEY}


@pytest.mark.parametrize("jump", [b"\x1b.A", b"\x1b.F", b"\x1b(B\x1b$)C", b"\x1b(J\x1b$*H", b"\x1b(B\x1b$+I"])
def test_finds_text_between_escapes_for_other_sets_that_change_nothing(jump: bytes) -> None:
    body = b"key " + b"".join(jump + bytes([one]) for one in SECRET) + b"\n"
    for size in (0, 1, 5):
        assert checks(body, b"text/plain; charset=iso-2022-jp-2", size=size) == {KEY}


def test_finds_in_large_members_what_json_escapes_and_keeps_little_of_it() -> None:
    member = b"{" + b"\\\\" * (4 << 20) + ESCAPED
    judge = toolbox().judge(SPEC)
    tracemalloc.start()
    began = time.process_time()
    assert {one.check for one in judge.text(member, "a")} == {KEY}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - began < 3
    assert peak < 8 << 20


def test_finds_in_stacked_codings_what_is_told_in_bounded_pieces() -> None:
    inner = zlib.compress(b"\\u0041" + b"\\" * (16 << 20), wbits=31, level=0)
    stack = Stack(["gzip", "gzip"], replace(DEFAULT_LIMITS, ratio=1 << 20))
    stack.feed(zlib.compress(inner, wbits=31))
    (_, outer), (_, inside) = stack.given()
    assert b"".join(inside) == inner
    assert max(map(len, inside)) <= PIECE
    assert len(outer) == 1


ESCAPES = st.lists(
    st.sampled_from(
        [b"\\\\", b'\\"', b"\\n", b"\\/", b"\\x", b"\\u00e4", b"\\u005c", b"\\u12", b"\\u00ff", b"\\\xff"]
    ),
    min_size=9,
    max_size=40,
)


@given(
    ESCAPES,
    st.lists(st.sampled_from([b"", b"u", b"n", b"0041", b"word ", "ä".encode()]), min_size=1, max_size=5),
)
def test_reads_few_escapes_among_much_text_as_it_reads_many(
    escapes: list[bytes], between: list[bytes]
) -> None:
    text = b"".join(one + between[at % len(between)] for at, one in enumerate(escapes)) + b" end"
    for before, behind in ((b"w" * 8000, b""), (b"", b"w" * 8000), (b"w" * 2000, b"w" * 6000)):
        assert JsonText().feed(before + text + behind) == before + JsonText().feed(text) + behind
