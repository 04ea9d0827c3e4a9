"""Text in UTF-16 and UTF-32: found in streams, bodies, datagrams, mail and archives, however it is cut."""

import base64
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.inspection.coding.wide import LOOKED_AT, Narrower, begins_wide
from filters.inspection.matching.database import Database
from filters.inspection.matching.scanner import Scanner
from filters.inspection.patterns.load import secrets
from filters.inspection.patterns.personal import PERSONAL
from tests.filters.inspection.drive import DOWN, GET, SECRET, SPEC, UP, answer, exchange, toolbox
from tests.filters.inspection.test_datagrams import Inspected, udp
from tests.filters.inspection.test_objects import zipped
from tests.filters.inspection.test_protocols import smtp

DATABASE = Database(secrets())
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
TEXT = f"Zugangsdaten für 机密: {SECRET.decode()} usw.\r\n"
PLAIN = "Ein Brief wie jeder andere, 没有秘密.\r\n"


def posted(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_secret_in_wide_text_is_found_wherever_text_is(encoding: str) -> None:
    for text, wanted in ((TEXT, ["secrets.aws-access-key"]), (PLAIN, [])):
        wide = text.encode(encoding)
        assert sorted(set(exchange([(UP, posted(wide))]).checks)) == wanted
        assert sorted(set(exchange([(UP, GET), (DOWN, answer(wide))]).checks)) == wanted
        mailed = b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(wide).replace(
            b"\n", b"\r\n"
        )
        assert sorted(set(exchange(smtp(mailed)).checks)) == wanted
        inspect = Inspected()
        inspect(udp(b"begin", 9))
        inspect(udp(wide, 9))
        assert [one.check for one in inspect.told] == wanted
        judge = toolbox().judge(SPEC)
        assert sorted({one.check for one in judge.judge(zipped({"a.txt": wide}), "x")}) == wanted


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ENCODINGS), st.lists(st.integers(0, 600), max_size=8), st.integers(0, 200))
def test_cuts_change_nothing(encoding: str, cuts: list[int], before: int) -> None:
    text = ("x" * before + " " + TEXT).encode(encoding)
    places = sorted({min(one, len(text)) for one in cuts} | {0, len(text)})
    scanner = Scanner(DATABASE)
    found = [one for start, stop in pairwise(places) for one in scanner.scan(text[start:stop])]
    scanner.close()
    assert [one.text for one in found] == [SECRET]


PERSON = "客户身份证号11010519491231002X的，卡号4111111111111111元。"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_finds_numbers_between_characters_of_other_writings(encoding: str) -> None:
    """The second byte of a character that is none of ASCII may look like a letter that the number goes on with."""
    text = ("\N{BOM}" + PERSON).encode(encoding)
    for size in (1, 2, 3, 5, len(text)):
        scanner = Scanner(Database(PERSONAL))
        found = [one for at in range(0, len(text), size) for one in scanner.scan(text[at : at + size])]
        scanner.close()
        assert {one.pattern.id for one in found} == {"chinese-resident-id", "payment-card"}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("begins", ["\N{BOM}", "hello world "])
def test_finds_a_secret_before_a_character_that_ends_like_a_letter(encoding: str, begins: str) -> None:
    """The bytes of 卡 are those of S and a: neither goes on with the secret, wherever it is cut, mark or none."""
    text = f"{begins}{SECRET.decode()}卡片有效\n".encode(encoding)
    for cut in range(len(text) + 1):
        scanner = Scanner(DATABASE)
        found = [*scanner.scan(text[:cut]), *scanner.scan(text[cut:])]
        scanner.close()
        assert [one.text for one in found] == [SECRET], cut


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["", "\N{BOM}"])
@given(
    st.text(
        st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\0"), max_size=40
    ),
    st.data(),
)
def test_keeps_every_character_of_ascii_and_parts_it_from_others(
    encoding: str, mark: str, text: str, data: st.DataObject
) -> None:
    text += "."
    raw = (mark + text).encode(encoding)
    cuts = sorted({0, len(raw), *data.draw(st.lists(st.integers(0, len(raw)), max_size=5))})
    narrower = Narrower(raw)
    told = b"".join(narrower.narrowed(raw[start:stop]) for start, stop in pairwise(cuts))
    rest = iter(told)
    assert all(one in rest for one in text.encode("ascii", "ignore"))
    # whole, and its order known: exact but for characters with a zero of their own
    if (
        mark
        and len(cuts) == 2
        and all(ord(one) < 0x80 or (ord(one) & 0xFF and ord(one) >> 8) for one in text)
    ):
        words = re.split("[^\0-\x7f]+", text)
        assert [one for one in re.split(rb"[\x80-\xff]+", told) if one] == [
            one.encode() for one in words if one
        ]


def test_the_last_byte_of_a_wide_secret_stays() -> None:
    wide = posted(TEXT.encode("utf-16-le"))
    secret = SECRET.decode().encode("utf-16-le")
    last = wide.index(secret) + len(secret) - 2
    for size in (1, 7):
        driven = exchange([(UP, wide[at : at + size]) for at in range(0, len(wide), size)])
        assert driven.cut is not None
        assert len(driven.out[UP]) <= last


def test_zeros_alone_make_no_wide_text() -> None:
    for data in (
        bytes(LOOKED_AT),
        b"\0a\0b\0c",
        b"\x7fELF" + bytes(9) + b"\1\0" * 100,
        b"plain text",
        b"a" * LOOKED_AT + TEXT.encode("utf-16-le"),
    ):
        assert not begins_wide(data)
