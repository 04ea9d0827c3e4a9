"""Text in UTF-16 and UTF-32: found in streams, bodies, datagrams, mail and archives, however it is cut."""

import base64
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.inspection.coding.wide import LOOKED_AT, begins_wide
from filters.inspection.matching.database import Database
from filters.inspection.matching.scanner import Scanner
from filters.inspection.patterns.load import secrets
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
