"""What is looked for in a quick way is what the plain way finds: archive signs, control characters, line ends, codings of mails."""

import base64
import binascii
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.inspection.coding.line_ends import stray_line_end
from filters.inspection.finding import Refusal
from filters.inspection.limits import DEFAULT_LIMITS
from filters.inspection.matching.database import Signs
from filters.inspection.objects.archive import Budget
from filters.inspection.objects.holding import is_binary
from filters.inspection.objects.mail_text import uuencoded
from filters.inspection.objects.mime import message_parts

LINE_ENDS = st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\x80", b""])).map(b"".join)
QUOTED = st.lists(
    st.sampled_from([b"=3D", b"=e4", b"=", b"3D", b" ", b"\t", b"\r\n", b"a", b"=\r\n", b"= \t\r\n"])
)
BASE64 = st.lists(st.sampled_from([b"QUJD", b"A", b"=", b"+/", b"\r\n", b" ", b"-", b"\x80"])).map(b"".join)


@given(LINE_ENDS)
def test_finds_line_ends_that_stand_alone(text: bytes) -> None:
    plain = re.search(rb"\r(?!\n|\Z)|(?<!\r)\n", text)
    assert stray_line_end(text) == (plain.start() if plain else -1)


@given(st.binary(max_size=300))
def test_control_characters_make_a_text_binary(data: bytes) -> None:
    assert is_binary(data) == any(one < 0x20 and one not in b"\t\n\v\f\r\x1b" for one in data)


@given(
    st.lists(
        st.sampled_from(
            [b"PK\x03\x04", b"PK\x01", b"\x02", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\x1a\x07", b"\n"]
        )
    )
)
def test_signs_end_where_the_first_of_each_does(words: list[bytes]) -> None:
    data, expressions = b"".join(words), (rb"PK\x03\x04", rb"7z\xbc\xaf\x27\x1c", rb"Rar!\x1a\x07")
    expected = {at: found.end() for at, one in enumerate(expressions) if (found := re.search(one, data))}
    assert dict(Signs(*expressions).ends(data)) == expected


def decoded(coding: bytes, body: bytes) -> bytes | None:
    """What a mail's only part decodes to, or None where it is refused."""
    head = b"Content-Type: application/x\r\nContent-Transfer-Encoding: " + coding + b"\r\n\r\n"
    try:
        return next(
            one.content for one in message_parts(head + body, Budget(DEFAULT_LIMITS)) if one.media_type
        )
    except Refusal:
        return None


@settings(max_examples=300)
@given(QUOTED)
def test_undoes_quoted_printable_strictly(words: list[bytes]) -> None:
    body = b"".join(words)
    escape = re.compile(rb"=(?:([0-9A-Fa-f]{2})|[ \t]*(?:\r\n|\Z))")
    whole = b"=" not in escape.sub(b"", body)
    plain = escape.sub(lambda one: binascii.unhexlify(one[1]) if one[1] else b"", body)
    assert decoded(b"quoted-printable", body) == (plain if whole else None)


@settings(max_examples=300)
@given(BASE64)
def test_undoes_base64_strictly(body: bytes) -> None:
    packed = re.sub(rb"[ \t\r\n]", b"", body)
    stray = re.search(rb"\r(?!\n)|(?<!\r)\n", body)
    whole = not stray and len(packed) % 4 == 0 and re.fullmatch(rb"[A-Za-z0-9+/]*={0,2}", packed)
    assert decoded(b"base64", body) == (base64.b64decode(packed) if whole else None)


@pytest.mark.parametrize(
    "before", [b"", b"text\n", b"xbegin-base64 644 a\n", b"xbegin 644 a\n", b"begin 64\n"]
)
def test_finds_files_at_the_begin_of_any_line_and_nowhere_else(before: bytes) -> None:
    for text in (b"begin 644 b\n#0V%T\n`\nend\n", b"begin-base64 644 b\nQ2F0\n====\n"):
        assert [name for name, _ in uuencoded(before + text)] == [b"b"]
        assert not list(uuencoded(b" " + text))


def test_words_that_begin_no_line_cost_little() -> None:
    for word in (b"begin 644 ", b"begin-base64 644 "):
        began = time.process_time()
        assert not list(uuencoded(b"x" + word * 100_000 + b"\n"))
        assert (
            time.process_time() - began < 1
        )  # 0.02 s; each looked at to the line's end took 8 s for a tenth of it
