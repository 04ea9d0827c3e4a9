"""A text is the same text in another character set."""

import random

import pytest

from filters.inspection.fingerprints.recoded import in_utf8
from tests.filters.inspection.fingerprints.documents import engine, noise, prose

_SIGNS = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
_DRAW = random.Random(4)
CHINESE = "".join(_DRAW.choice(_SIGNS) + ("。\r\n" if one % 70 == 69 else "") for one in range(3000))
ENGLISH = prose(1).decode()
SETS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030")


def checks(data: bytes, kept: bytes) -> list[str]:
    return [one.check for one in engine({"plan": kept}).inside(data)]


@pytest.mark.parametrize("text", [ENGLISH, "Report, draft 2\r\n" + CHINESE], ids=["English", "Chinese"])
@pytest.mark.parametrize("kept", ["utf-8", "utf-16", "gb18030"])
@pytest.mark.parametrize("sent", SETS)
def test_a_document_is_recognised_in_any_set(text: str, kept: str, sent: str) -> None:
    assert checks(text.encode(sent), text.encode(kept)) == ["fingerprints.plan"]
    part = "Other words. " * 3 + text[200:900]
    assert checks(part.encode(sent), text.encode(kept)) == ["fingerprints.plan"]


def test_a_page_in_gb18030_is_read_without_its_marks() -> None:
    page = "<html><body>" + "".join(f"<b>{one}</b>" for one in CHINESE) + "</body></html>"
    assert checks(page.encode("gb18030"), CHINESE.encode()) == ["fingerprints.plan"]


@pytest.mark.parametrize(
    "data", [b"", b"plain", "Straße, 机密".encode(), b"\xff\xd8\xff\xe0" + noise(1, 4000), noise(2, 4000), "机".encode()[:2], bytes(600)]
)  # fmt: skip
def test_what_is_utf_8_or_no_text_stays_as_it_is(data: bytes) -> None:
    assert in_utf8(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe",
        b"\xff\xfea",
        b"\xfe\xff\xd8\x00",
        b"\0\0\xfe\xff\xff",
        b"\0a" * 9,
        "机密".encode("gb18030")[:3],
    ],
)
def test_a_text_that_is_cut_has_an_answer(data: bytes) -> None:
    assert isinstance(in_utf8(data), bytes)
