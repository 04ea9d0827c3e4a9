"""Mail whose text says something else than its bytes: what programs show of it is what is judged."""

import base64
import binascii
import contextlib
import gzip
import re
import time
import tracemalloc
from collections.abc import Callable
from email.header import Header
from itertools import product

import pytest

from filters.inspection.finding import Refusal
from filters.inspection.limits import DEFAULT_LIMITS
from filters.inspection.objects.archive import Budget
from filters.inspection.objects.mime import form_parts, message_parts
from tests.filters.inspection.drive import DOWN, EICAR, GET, SECRET, SPEC, UP, answer, exchange, toolbox
from tests.filters.inspection.test_objects import tarred, zipped
from tests.filters.inspection.test_protocols import mail, smtp

FINE = b"an ordinary text, nothing in it"
KEY = SECRET.decode()
SETS = ("utf-7", "UTF-7", "unicode-1-1-utf-7", "utf-16", "utf-16le", "UTF-16BE", "utf-32", "ibm037", "cp500", "EBCDIC-CP-BE", "hz", "cp1140")  # fmt: skip


def checks(message: bytes) -> set[str]:
    return set(exchange(smtp(message)).checks)


def lines(*fields: bytes, body: bytes = b"text\r\n") -> bytes:
    return b"\r\n".join(fields) + b"\r\n\r\n" + body


def wrapped(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def uu(data: bytes, *, longer: bool = False, last: bytes = b"`\r\nend\r\n") -> bytes:
    coded = [
        binascii.b2a_uu(data[at : at + 45]).rstrip(b"\n") + (b" x" if longer else b"")
        for at in range(0, len(data), 45)
    ]
    return b"begin 644 a.bin\r\n" + b"\r\n".join(coded) + b"\r\n" + last


IN_TEXT: dict[str, Callable[[bytes], bytes]] = {
    "plain": uu, "with a sum": lambda data: uu(data, longer=True), "without an end": lambda data: uu(data, last=b""),
    "behind text": lambda data: b"see below\r\n\r\n" + uu(data), "the second": lambda data: uu(b"x") + uu(data),
    "base64": lambda data: b"begin-base64 644 a\r\n" + wrapped(data) + b"====\r\n",
}  # fmt: skip
AROUND: dict[str, Callable[[bytes], bytes]] = {
    "no type": lambda text: lines(b"Subject: x", body=text),
    "text": lambda text: lines(b"Content-Type: text/plain; charset=us-ascii", body=text),
    "base64": lambda text: lines(b"Content-Transfer-Encoding: base64", body=wrapped(text)),
    "part": lambda text: lines(
        b"Content-Type: multipart/mixed; boundary=b", body=b"--b\r\n\r\n" + text + b"\r\n--b--\r\n"
    ),
}


@pytest.mark.parametrize("around", AROUND)
def test_files_in_uuencode_are_judged(around: str) -> None:
    for form, (bad, check) in product(
        IN_TEXT, ((EICAR, "malware.eicar"), (gzip.compress(SECRET), "secrets.aws-access-key"))
    ):
        assert check in checks(AROUND[around](IN_TEXT[form](bad))), form
        assert checks(AROUND[around](IN_TEXT[form](FINE))) == set(), form


@pytest.mark.parametrize(
    "text",
    [
        b"begin 644 now\r\nwe begin\r\n",
        b"begin 644 x\r\n",
        b"begin the begin\r\n",
        b"begin 644 a\r\n\x7f\xff\r\nend\r\n",
        b"begin-base64 644 a\r\nA\r\n",
        b"begin-base64 644 a\r\nA=B=C\r\n====\r\n",
        b"begin 644 a\r\n" * 900,
    ],
)
def test_text_that_is_no_uuencode_passes(text: bytes) -> None:
    assert checks(lines(b"Subject: x", body=text)) == set()


@pytest.mark.parametrize("name", SETS)
def test_text_in_sets_without_ascii_is_read(name: str) -> None:
    codec = {"unicode-1-1-utf-7": "utf-7", "ibm037": "cp037", "EBCDIC-CP-BE": "cp500"}.get(name, name)
    for text, wanted in (
        (f"Schlüssel 机密 {KEY} usw.", {"secrets.aws-access-key"}),
        ("ein Brief 平安", set()),
    ):
        data = text.encode(codec, "replace")
        if codec == "utf-7":  # every character may be coded
            data = b"".join(
                b"+" + base64.b64encode(one.encode("utf-16-be")).rstrip(b"=") + b"-" for one in text
            )
        typed = b"Content-Type: text/plain; charset=" + name.encode()
        assert checks(lines(typed, b"Content-Transfer-Encoding: base64", body=wrapped(data))) == wanted
        for size in (1, 1000):
            said = answer(data, typed)
            pieces = [(DOWN, said[at : at + size]) for at in range(0, len(said), size)]
            assert set(exchange([(UP, GET), *pieces]).checks) == wanted, size


def test_coded_words_in_fields_are_read() -> None:
    coded = {
        "b": b"=?utf-8?B?" + base64.b64encode(SECRET) + b"?=", "b unpadded": b"=?utf-8?b?" + base64.b64encode(SECRET).rstrip(b"=") + b"?=",
        "q": b"=?us-ascii?Q?" + b"".join(b"=%02X" % one for one in SECRET) + b"?=", "two": b"=?utf-8?B?" + base64.b64encode(SECRET[:9]) + b"?= =?utf-8?B?" + base64.b64encode(SECRET[9:]) + b"?=",
        "folded": b"=?utf-8?Q?" + SECRET[:7] + b"?=\r\n =?utf-8?Q?" + SECRET[7:] + b"?=", "language": b"=?utf-8*en?B?" + base64.b64encode(SECRET) + b"?=",
        "utf-7": b"=?utf-7?Q?" + b"+" + base64.b64encode(KEY.encode("utf-16-be")).rstrip(b"=") + b"-?=", "escaped": b"x; y*=utf-8''" + b"".join(b"%%%02x" % one for one in SECRET),
    }  # fmt: skip
    for name, value in coded.items():
        assert checks(lines(b"Subject: key " + value)) == {"secrets.aws-access-key"}, name
    for text in ("Grüße aus München", "一封信", "100 % sicher"):
        assert (
            checks(lines(b"Subject: " + Header(text, "utf-8").encode().replace("\n", "\r\n").encode()))
            == set()
        )


def test_joined_lines_are_read() -> None:
    body = b"key " + SECRET[:8] + b" \r\n" + SECRET[8:] + b"\r\nmore\r\n"
    assert checks(lines(b"Content-Type: text/plain; format=flowed; delsp=yes", body=body)) == {
        "secrets.aws-access-key"
    }
    assert checks(lines(b"Content-Type: text/plain; format=flowed", body=body)) == set()


def test_rejects_a_part_of_a_message() -> None:
    assert checks(lines(b"Content-Type: message/partial; id=x; number=1; total=2")) == {"mime-partial"}


def test_messages_inside_forms_and_archives_are_opened() -> None:
    stored = mail(EICAR)
    form = b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + stored + b"\r\n--b--\r\n"
    parts = form_parts(form, "multipart/form-data; boundary=b", Budget(DEFAULT_LIMITS))
    assert EICAR in [one.content for one in parts]
    for letter in (stored, stored.replace(b"\r\n", b"\n"), b"From a Mon\n" + stored):
        for data in (letter, zipped({"a.eml": letter}), tarred({"a.eml": letter})):
            assert "malware.eicar" in {one.check for one in toolbox().judge(SPEC).judge(data, "x")}


def test_every_mail_of_an_mbox_is_opened() -> None:
    fine, bad = (mail(one).replace(b"\r\n", b"\n") for one in (b"fine", EICAR))
    box = b"".join(
        b"From a@h Mon Jan  1 00:00:00 2024\n" + one.rstrip() + b"\n\n"
        for one in (fine, b"broken\n\nx", bad, fine)
    )
    assert "malware.eicar" in {one.check for one in toolbox().judge(SPEC).judge(box, "x")}
    assert toolbox().judge(SPEC).judge(box.replace(bad.rstrip(), fine.rstrip()), "x") == []


def test_what_only_looks_like_a_message_passes() -> None:
    patch = b"From: a@h\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: [PATCH] x\n\n---\n a | 1 +\n\ndiff --git a/a b/a\n"
    for data in (
        patch,
        patch + b"\r\rbroken",
        b"From: x\nno field\n",
        b"Received: x\nContent-Type: multipart/mixed; boundary=b\n\nno parts\n",
    ):
        assert toolbox().judge(SPEC).judge(data, "x") == []


def test_fields_are_no_object() -> None:
    (fields, leaf) = message_parts(lines(b"Subject: =?utf-8?Q?=41?="), Budget(DEFAULT_LIMITS))
    assert (fields.media_type, fields.content, leaf.content) == ("", b"A", b"text\r\n")


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    "body", [b"", b"x", b"text that is none of it", bytes(range(256)), b"+//8-" * 9, b"~{ ~"]
)
def test_a_label_that_is_wrong_harms_nobody(name: str, body: bytes) -> None:
    typed = b"Content-Type: text/plain; charset=" + name.encode()
    assert exchange([(UP, GET), (DOWN, answer(body, typed))]).checks == []
    assert checks(lines(typed, b"Content-Transfer-Encoding: base64", body=wrapped(body))) == set()


def judged(data: bytes) -> set[str]:
    return {one.check for one in toolbox().judge(SPEC).judge(data, "x")}


def stored(*parts: bytes, label: bytes = b"multipart/mixed; boundary=b", end: bytes = b"--b--\r\n") -> bytes:
    body = b"".join(b"--b\r\n" + one + b"\r\n" for one in parts) + end
    return lines(b"MIME-Version: 1.0", b"Content-Type: " + label, body=body)


CODED = b"Content-Transfer-Encoding: base64\r\n"
BAD = CODED + b"\r\n" + wrapped(EICAR)


def test_a_word_that_only_names_an_attachment_is_no_boundary() -> None:
    for field in (
        b'Content-Type: application/pdf; name="Boundary survey.pdf"',
        b'Content-Disposition: attachment; filename="boundary=1.pdf"',
        b"Content-Type: application/x-boundary",
    ):
        assert checks(stored(field + b"\r\n\r\nfine")) == set(), field


@pytest.mark.parametrize(
    "data",
    [
        stored(BAD, end=b"--b--\r\n--b\r\n"),
        stored(b'Content-Type: application/octet-stream; name="boundary.com"\r\n' + BAD),
        stored(BAD, label=b"multipart/x-boundary; x=boundary; boundary=b"),
        stored(BAD, end=b"cut off"),
        stored(b"no field\r\n\r\nfine", BAD),
        stored(CODED + b"\r\n!no base64!", BAD),
        stored(b"Content-Type: text/plain; (a comment)\r\n" + BAD),
        stored(b"Content-Disposition: attachment; filename=my file.com\r\n" + BAD),
        stored(b"\r\na\rb", BAD),
        stored(b"Content-Transfer-Encoding: x-none\r\n\r\nfine", BAD),
    ],
)
def test_the_parts_of_a_stored_mail_that_can_be_read_are_judged(data: bytes) -> None:
    for letter in (data, data.replace(b"\r\n", b"\n")):
        assert "malware.eicar" in judged(letter)
        assert "malware.eicar" in judged(zipped({"a.eml": letter}))


def test_rejects_a_stored_mail_whose_boundary_mail_programs_read_differently() -> None:
    for data, check in (
        (stored(b"\r\nfine\r\n--bX\r\n" + BAD), "mime-boundary"),
        (stored(b"\r\nfine\r--b\r\n" + BAD), "mime-boundary"),
        (stored(BAD, label=b"multipart/mixed; boundary=x; boundary=b"), "mime-parameter"),
        (stored(BAD, label=b"multipart/mixed; boundary*0=b"), "mime-parameter"),
    ):
        assert judged(data) == {check}, data
        assert judged(data.replace(b"MIME-Version", b"X-Version")) == set()  # nothing says that it is mail


@pytest.mark.parametrize(
    ("label", "ours", "theirs"),
    [(b"b(x)", b"b(x)", b"b"), (b"b,c", b"b,c", b"b"), (b'"b\\x"', b"bx", b"b\\x")],
)
def test_rejects_a_boundary_that_mail_programs_read_differently(
    label: bytes, ours: bytes, theirs: bytes
) -> None:
    hidden = b"--" + theirs + b"\r\n" + BAD + b"\r\n--" + theirs + b"--\r\n"
    said = b"Content-Type: multipart/mixed; boundary="
    body = b"--%s\r\n\r\nfine\r\n%s--%s--\r\n" % (ours, hidden, ours)
    letter = lines(b"MIME-Version: 1.0", said + label, body=body)
    assert checks(letter) == {"mime-parameter"}
    inner = b"--o\r\n%s\r\n--o--\r\n" % lines(said + label, body=body)
    assert checks(lines(said + b"o", body=inner)) == {"mime-parameter"}
    assert "mime-parameter" in judged(letter)
    seen = lines(said + label, body=body.replace(b"\r\nfine", BAD))  # no MIME-Version: no mail for sure
    assert "malware.eicar" in judged(seen)


def test_boundaries_of_ordinary_mail_programs_pass() -> None:
    for label in (
        b'"=_b (1), 2"', b"----=_NextPart_000_0001_01D9.ABCD", b"Apple-Mail=_1A-2B", b"000000000000a1b2c3", b'"===============123=="', b'"_000_AB+C.D:e/f?_"',
    ):  # fmt: skip
        marker = b"--" + label.strip(b'"')
        body = b"%s\r\n\r\nfine\r\n%s--\r\n" % (marker, marker)
        letter = lines(
            b"MIME-Version: 1.0", b"Content-Type: multipart/mixed; x=boundary; boundary=" + label, body=body
        )
        assert checks(letter) == judged(letter) == set(), label
    other = lines(b"MIME-Version: 1.0", b"Content-Type: text/plain; boundary=b(x)")
    assert checks(other) == judged(other) == set()


def test_a_boundary_as_long_as_a_mail_costs_little() -> None:
    for boundary in (b"b" * (8 << 20), b'"' + b"b" * (8 << 20) + b'"'):
        letter = stored(b"\r\nfine", label=b"multipart/mixed; boundary=" + boundary)
        doubts: list[Refusal] = []
        tracemalloc.start()
        begun = time.process_time()
        assert [one.name for one in message_parts(letter, Budget(DEFAULT_LIMITS), 0, doubts)] == []
        assert time.process_time() - begun < 0.5
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
        tracemalloc.stop()
        assert [one.check for one in doubts] == ["mime-boundary"]
    letter = stored(b"\r\nfine", label=b"multipart/mixed; boundary=" + b"b" * 1001)
    assert judged(letter) == {"mime-boundary"}


def test_boundaries_are_not_kept_as_patterns() -> None:
    re.purge()
    kept = []
    for number in range(3):
        label = b"multipart/mixed; boundary=b%d" % number
        list(message_parts(stored(label=label), Budget(DEFAULT_LIMITS), 0, []))
        kept.append(len(re._cache))  # type: ignore[attr-defined]
    assert kept[0] == kept[2]


def test_a_crowd_of_parameters_is_read_in_time() -> None:
    begun = time.process_time()
    letter = lines(b"Content-Type: text/plain" + b";" * (1 << 20), body=b"fine")
    assert [one.content for one in message_parts(letter, Budget(DEFAULT_LIMITS))] == [b"fine"]
    assert time.process_time() - begun < 3


def test_texts_about_mail_and_mails_cut_off_pass() -> None:
    for data in (
        b"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nno boundary\n--\nme\n",
        b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b and so on\n\nis how a mail begins\n",
        b"MIME-Version: 1.0\nContent-Type: text/plain; charset\n\n--\nme\n",
        stored(b"\r\nfine", end=b"--b"), stored(b"\r\nfine", end=b""), stored(CODED + b"\r\nZmluZ", end=b""),
        stored(b"\r\nfine", end=b"--b--\r\n-- \r\nfrom a list\r\n"),
    ):  # fmt: skip
        assert judged(data) == set(), data


def test_a_crowd_of_boundaries_is_not_read_to_its_end() -> None:
    for data, check in (
        (stored(end=b"--b\r\n" * (1 << 20)), "members"),
        (stored(end=b"--b\r\n" + b"--bX\r\n" * (1 << 20)), "members"),
        (stored(BAD, end=b"--b" * (1 << 20)), "malware.eicar"),
    ):
        begun = time.process_time()
        with contextlib.suppress(Refusal):
            list(message_parts(data, Budget(DEFAULT_LIMITS), 0, []))
        assert time.process_time() - begun < 0.5
        assert check in judged(data)
