"""Forms that servers read in another way than mail programs do: what PHP or werkzeug would store is judged, or refused."""

import base64
import gzip
from itertools import product

import pytest

from tests.filters.inspection.drive import EICAR
from tests.filters.inspection.test_body_disguises import checks
from tests.filters.inspection.test_objects import tarred, zipped

FORM = b"multipart/form-data; boundary=b"
BAD = gzip.compress(EICAR, mtime=0)
DISPOSED = b'Content-Disposition: form-data; name="f"; filename="a.gz"'


def form(*parts: bytes, end: bytes = b"") -> bytes:
    return b"".join(b"--b\r\n" + one + b"\r\n" for one in parts) + b"--b--\r\n" + end


def test_ordinary_forms_pass() -> None:
    for part in (
        b'Content-Disposition: form-data; name="text"\r\n\r\none\ntwo\rthree\r\n\r\nfour',
        b'Content-Disposition: form-data; name="f"; filename="C:\\dir\\a, b; c.txt"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\none\n\n',
        b"Content-Disposition: form-data; name=files[]; filename=a,b.txt\r\n\r\nfine",
        b"\r\n\nno head at all\n",
        DISPOSED + b"\r\nContent-Type: application/gzip\r\nContent-Transfer-Encoding: binary\r\n\r\n" + gzip.compress(b"fine"),
        b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(b"fine " * 9),
    ):  # fmt: skip
        assert checks(form(part, part), FORM) == set(), part
    assert "malware.eicar" in checks(form(DISPOSED + b"\r\n\r\n" + BAD), FORM)


@pytest.mark.parametrize(
    "label",
    [
        b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
        b"multipart/form-data; charset=utf-8; boundary=------------------------d74496d66958873e",
        b'multipart/related; type="text/xml"; start="<a@b>"; boundary="=_boundary (1), 2"',
        b"multipart/form-data; boundary=----=_Part_1_2.3",
        b"multipart/mixed; boundary=fine; x=boundary",
    ],
)
def test_boundaries_of_ordinary_clients_pass(label: bytes) -> None:
    boundary = label.split(b"boundary=", 1)[1].split(b"; x")[0].strip(b'"')
    body = form(DISPOSED + b"\r\n\r\nfine").replace(b"--b", b"--" + boundary)
    assert checks(body, label) == set()


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\n\r\n"])
def test_rejects_a_head_that_ends_without_crlf(end: bytes) -> None:
    assert checks(form(DISPOSED + b"\r\nX: y" + end + BAD), FORM) == {"mime-line-end"}
    assert checks(form(DISPOSED + b"\r\nX: y" + end + BAD + b"\r\n\r\nmore"), FORM) == {"mime-line-end"}


@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_rejects_a_boundary_behind_half_a_line_end(end: bytes) -> None:
    hidden = b"\r\n\r\nfine" + end + b"--b\r\n" + DISPOSED + b"\r\n\r\n" + BAD
    assert checks(form(b'Content-Disposition: form-data; name="t"' + hidden), FORM) == {"mime-boundary"}


def test_rejects_parts_behind_the_closing_boundary() -> None:
    for end, before in product((b"\r\n", b"\n"), (b"", b"text" + b"\r\n")):
        behind = before + b"--b" + end + DISPOSED + b"\r\n\r\n" + BAD + b"\r\n--b--\r\n"
        assert checks(form(DISPOSED + b"\r\n\r\nfine", end=behind), FORM) == {"mime-boundary"}
    assert checks(form(DISPOSED + b"\r\n\r\nfine", end=b"an epilogue --b\r\n"), FORM) == set()


@pytest.mark.parametrize(
    "label",
    [
        b"multipart/form-data; boundary=b,x",
        b"multipart/form-data; x-boundary=b; boundary=x",
        b'multipart/form-data; x="; boundary=b"; boundary=x',
        b"multipart/form-data; x=boundary=b; boundary=x",
        b'multipart/form-data; boundary="\\x"',
        b"multipart/x-boundary; y=b; boundary=x",
    ],
)
def test_rejects_a_boundary_that_servers_read_differently(label: bytes) -> None:
    outer = b"x" if not label.endswith(b"b,x") else b"b,x"
    inner = form(DISPOSED + b"\r\n\r\n" + BAD)
    body = b"--%s\r\n\r\nfine\r\n%s\r\n--%s--\r\n" % (outer, inner, outer)
    assert checks(body, label) & {"mime-parameter", "mime-type", "http-field-twice"}


def test_a_part_is_judged_as_it_came_too() -> None:
    tar = tarred({"=41.gz": BAD}, "w:")
    assert tar.count(b"=") == 1  # undone, it would shift the blocks
    head = DISPOSED + b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    assert "malware.eicar" in checks(form(head + tar), FORM)
    coded = DISPOSED + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(BAD)
    assert "malware.eicar" in checks(form(coded), FORM)  # some servers undo it
    nested = DISPOSED + b"\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n%s\r\n--i\r\n\r\nfine\r\n--i--"
    assert checks(form(nested % (BAD)), FORM) & {"malware.eicar", "archive-ambiguous"}
    assert "malware.eicar" in checks(form(nested % zipped({"a": EICAR})), FORM)
    assert checks(form(nested % b"a preamble"), FORM) == set()


def test_a_word_that_only_names_a_part_is_no_boundary() -> None:
    for part in (
        b'Content-Disposition: form-data; name="boundary"\r\n\r\n1',
        b'Content-Disposition: form-data; name="f"; filename="boundary.geojson"\r\nContent-Type: application/json\r\n\r\n{}',
        b'Content-Disposition: form-data; name="f"\r\nContent-Type: application/x-boundary; name=boundary\r\n\r\nfine',
    ):
        assert checks(form(part, part), FORM) == set(), part
