"""The text of XML and HTML."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.inspection.fingerprints.markup import is_markup, plain


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (b"<w:p><w:r><w:t>One wo</w:t></w:r><w:r><w:t>rd</w:t></w:r></w:p><w:p>two</w:p>", "One word\ntwo\n"),
        (b"<p>a &amp; b &#65;&#x42; &lt;c&gt;</p>", "a & b AB <c>\n"),
        (b"<c><v>12</v></c><c><v>13</v></c>", "12\n13\n"),
        (b"one<br/>two<text:tab/>three<text:s text:c='2'/>four", "one\ntwo three four"),
        (b"<t><![CDATA[hidden text]]></t>", "hidden text"),
        (b"\xef\xbb\xbf<p>mark</p>", "mark\n"),
        ("\ufeff<p>wide 机密</p>".encode("utf-16-le"), "wide 机密\n"),
        ("<p>wide 机密</p>".encode("utf-16-be"), "wide 机密\n"),
        ("<p>wide 机密</p>".encode("utf-16-le"), "wide 机密\n"),
        (b"<p>\xff broken", "\ufffd broken"),
        (b"no marks < at all", "no marks < at all"),
    ],
)
def test_reads_the_text(markup: bytes, text: str) -> None:
    assert plain(markup) == text.encode()


@pytest.mark.parametrize("number", [b"&#0;", b"&#55296;", b"&#1114112;", b"&#xD800;"])
def test_numbers_that_are_no_character_are_replaced(number: bytes) -> None:
    assert plain(b"<p>" + number) == "\ufffd".encode()


@given(st.binary(max_size=300))
def test_whatever_comes_there_is_an_answer(data: bytes) -> None:
    plain(data)
    plain(b"\xff\xfe" + data)


@pytest.mark.parametrize(
    "unit", [b"<", b"&", b"&#1", b"<!--", b"<![CDATA[", b"</p", b"<w:tab ", b"&#99999999999999999999"]
)
def test_is_linear_in_what_it_reads(unit: bytes) -> None:
    began = time.process_time()
    plain(unit * (2_000_000 // len(unit)))
    assert time.process_time() - began < 5


def test_tells_markup_from_the_rest() -> None:
    assert is_markup(b"\n <?xml version='1.0'?>")
    assert is_markup("\ufeff<p>".encode("utf-16-le"))
    assert not is_markup(b"a < b")
    assert not is_markup(b"")
