"""Sets as bytes: one encoding, and an error for everything else."""

import hashlib
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.inspection.fingerprints.print_set import Document, FingerprintError, PrintSet
from filters.inspection.fingerprints.set_file import encode, parse
from tests.filters.inspection.fingerprints.documents import SECRET_KEY, print_set, prose

SET = print_set({"plan": prose(1), "budget": prose(2)}, {"letterhead": prose(3)})
WHOLE = encode(SET)
HEADER = slice(16, 16 + struct.unpack_from("<I", WHOLE, 12)[0])

DOCUMENTS = st.builds(
    Document,
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 40),
    st.booleans(),
    st.integers(0, 1000),
    st.sets(st.integers(0, (1 << 64) - 1), min_size=4, max_size=30).map(
        lambda some: np.array(sorted(some), np.uint64)
    ),
)


def sealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def with_header(**changes: object) -> bytes:
    """A set whose header was changed and whose checksum is right."""
    data = {**json.loads(WHOLE[HEADER]), **changes}
    header = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    return sealed(WHOLE[:12] + struct.pack("<I", len(header)) + header + WHOLE[HEADER.stop : -32])


def with_fact(**changes: object) -> bytes:
    first, *others = json.loads(WHOLE[HEADER])["documents"]
    return with_header(documents=[{**first, **changes}, *others])


@given(st.binary(min_size=32, max_size=32), st.lists(DOCUMENTS, max_size=4, unique_by=lambda one: one.name))
def test_what_is_written_is_read_back(secret: bytes, documents: list[Document]) -> None:
    data = encode(PrintSet(secret, tuple(documents)))
    back = parse(data)
    assert encode(back) == data
    assert back.secret == secret
    for one, two in zip(documents, back.documents, strict=True):
        assert (one.name, one.size, one.added, one.common, one.recognised) == (
            two.name, two.size, two.added, two.common, two.recognised,
        )  # fmt: skip
        assert one.prints.tolist() == two.prints.tolist()


@given(st.data())
def test_any_damage_is_told(data: st.DataObject) -> None:
    damaged = bytearray(WHOLE)
    place = data.draw(st.integers(0, len(WHOLE) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FingerprintError):
        parse(bytes(damaged))
    with pytest.raises(FingerprintError):
        parse(WHOLE[: data.draw(st.integers(0, len(WHOLE) - 1))])


SWAPPED = WHOLE[HEADER.stop + 8 : HEADER.stop + 16] + WHOLE[HEADER.stop : HEADER.stop + 8]
FAULTS = {
    "nothing": (b"", "at least 48 bytes"),
    "another kind of file": (b"PK\3\4" + bytes(60), "fingerprint add"),
    "another version": (sealed(WHOLE[:8] + b"\2\0\0\0" + WHOLE[12:-32]), "version 1; got 2"),
    "damaged": (WHOLE[:-40] + b"x" * 8 + WHOLE[-32:], "checksum"),
    "header past the end": (sealed(WHOLE[:12] + b"\xff\xff\0\0" + b"{}"), "shorter"),
    "no JSON": (sealed(WHOLE[:12] + b"\2\0\0\0" + b"{x"), "JSON"),
    "no object": (sealed(WHOLE[:12] + b"\2\0\0\0" + b"[]"), "object"),
    "another key": (with_header(extra=1), "`documents` and `secret`"),
    "short secret": (with_header(secret="00"), "32 bytes"),
    "secret that is no text": (with_header(secret=5), "32 bytes"),
    "blanks in the header": (
        sealed(WHOLE[:12] + struct.pack("<I", HEADER.stop - 15) + b" " + WHOLE[16:-32]), "one form",
    ),
    "capital digits": (with_header(secret=SECRET_KEY.hex().upper()), "one form"),
    "documents that are no list": (with_header(documents={}), "`documents`"),
    "document that is no object": (with_header(documents=[1]), "for each document"),
    "too many documents": (with_header(documents=[1] * 4097), "at most 4096"),
    "missing fact": (with_header(documents=[{"name": "x"}]), "for each document"),
    "fact of another kind": (with_fact(common=1), "common: expected bool"),
    "truth as number": (with_fact(added=True), "added: expected int"),
    "negative number": (with_fact(size=-1), "size: expected a number"),
    "bad name": (with_fact(name="../x"), "name: expected"),
    "two of one name": (with_fact(name="budget"), "one name"),
    "too few fragments": (with_fact(fragments=3), "at least 4"),
    "more than all": (with_fact(recognised=1001), "at most 1000"),
    "fewer fragments than said": (with_fact(fragments=10_000), "bytes of fingerprints"),
    "more fragments than said": (sealed(WHOLE[:-32] + bytes(8)), "bytes of fingerprints"),
    "out of order": (sealed(WHOLE[: HEADER.stop] + SWAPPED + WHOLE[HEADER.stop + 16 : -32]), "in order"),
}  # fmt: skip


@pytest.mark.parametrize("fault", list(FAULTS))
def test_rejects(fault: str) -> None:
    data, says = FAULTS[fault]
    with pytest.raises(FingerprintError, match=says):
        parse(data)


def test_nothing_of_a_document_stands_in_the_file() -> None:
    text = prose(1)
    assert not any(text[at : at + 8] in WHOLE for at in range(len(text) - 8))


def test_two_secrets_make_two_files() -> None:
    other = print_set({"plan": prose(1)}, secret=b"x" * 32).documents[0].prints
    assert not set(other.tolist()) & set(SET.documents[0].prints.tolist())
    assert encode(replace(SET, secret=b"x" * 32)) != WHOLE
