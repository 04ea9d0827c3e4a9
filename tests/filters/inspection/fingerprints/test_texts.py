"""What of a file is fingerprinted."""

import gzip

import pytest

from filters.inspection.fingerprints.print_set import FingerprintError
from filters.inspection.fingerprints.texts import texts_of
from filters.inspection.limits import DEFAULT_LIMITS, Limits
from tests.filters.inspection.fingerprints.documents import docx, prose
from tests.filters.inspection.test_objects import tarred, zipped

TEXT = prose(1, 3000)


def texts(data: bytes, limits: Limits = DEFAULT_LIMITS) -> list[bytes]:
    return list(texts_of(data, "file", limits))


def test_a_plain_file_is_its_bytes() -> None:
    assert texts(TEXT) == [TEXT]


def test_an_archive_is_its_bytes_and_those_of_its_files() -> None:
    packed = zipped({"a": TEXT, "b.tar.gz": tarred({"c": b"inner"})})
    found = texts(packed)
    assert found[:2] == [packed, TEXT]
    assert found[-1] == b"inner"
    zipped_text = gzip.compress(TEXT)
    assert texts(zipped_text) == [zipped_text, TEXT]


def test_of_an_office_document_only_what_its_author_wrote() -> None:
    packed, plain = texts(docx(TEXT))
    assert packed in docx(TEXT)
    assert len(packed) < len(docx(TEXT)) - 500
    assert plain.replace(b"\n", b" ").split() == TEXT.split()


def test_files_that_can_not_be_read_are_refused_with_advice() -> None:
    broken = zipped({"a": TEXT})[:-10]
    with pytest.raises(FingerprintError, match=r"archive-broken.*unpack it"):
        texts(broken)
    deep = TEXT
    for _ in range(8):
        deep = zipped({"x.zip": deep})
    with pytest.raises(FingerprintError, match="depth"):
        texts(deep)
    with pytest.raises(FingerprintError, match="at most 100 bytes"):
        texts(TEXT, Limits(object=100))


def test_a_zip_that_only_looks_like_an_office_document_is_read_as_an_archive() -> None:
    assert TEXT in texts(tarred({"mimetype": b"x", "content.txt": TEXT}))
