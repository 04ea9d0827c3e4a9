"""Reference sets that gateways bring: by signature alone, and versions only grow."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.portmap import PortMap
from authn.reference import ReferenceEvent, ReferenceSet
from authn.reference_shelf import MOST_BROUGHT, ReferenceShelf
from authn.signing import DocumentError, key_id

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(one * 32) for one in (b"k", b"o"))
PUBLIC = KEY.public_key().public_bytes_raw()
NOW, LATER = 1000.0, 2000.0
PROVISIONED = ReferenceSet(1, LATER, {"gateway-pcr11": ()})


def a_set(version: int, text: str = "image") -> ReferenceSet:
    event = ReferenceEvent(text, hashlib.sha256(text.encode()).digest())
    return ReferenceSet(version, LATER, {"gateway-pcr11": (event,)})


@pytest.fixture
def shelf() -> ReferenceShelf:
    return ReferenceShelf([PROVISIONED], {key_id(PUBLIC): PUBLIC})


def refused(shelf: ReferenceShelf, document: bytes, now: float = NOW) -> str:
    before = shelf.sets
    with pytest.raises(DocumentError) as raised:
        shelf.take(document, now)
    assert shelf.sets == before
    return raised.value.code


def test_a_newer_set_counts_beside_the_provisioned_one(shelf: ReferenceShelf) -> None:
    shelf.take(a_set(2).sign(KEY), NOW)
    assert shelf.sets == (PROVISIONED, a_set(2))


def test_the_same_set_again_changes_nothing(shelf: ReferenceShelf) -> None:
    for _ in range(3):
        shelf.take(a_set(2).sign(KEY), NOW)
    assert shelf.sets == (PROVISIONED, a_set(2))


def test_the_image_that_was_fallen_back_to_is_still_good(shelf: ReferenceShelf) -> None:
    for version in (3, 4, 2):  # tried, tried, and what was in force all the time, first heard of now
        shelf.take(a_set(version).sign(KEY), NOW)
    assert a_set(2) in shelf.sets


def test_only_the_newest_are_kept(shelf: ReferenceShelf) -> None:
    for version in range(2, 2 + MOST_BROUGHT + 2):
        shelf.take(a_set(version).sign(KEY), NOW)
    assert {one.version for one in shelf.sets} == {1, *range(4, 4 + MOST_BROUGHT)}
    assert refused(shelf, a_set(3).sign(KEY)) == "outdated"


def test_rejects_set_that_is_not_newer_than_the_provisioned(shelf: ReferenceShelf) -> None:
    assert refused(shelf, a_set(1).sign(KEY)) == "outdated"
    assert refused(shelf, a_set(0).sign(KEY)) == "outdated"


def test_rejects_other_content_under_a_known_version(shelf: ReferenceShelf) -> None:
    shelf.take(a_set(2).sign(KEY), NOW)
    assert refused(shelf, a_set(2, "another").sign(KEY)) == "ambiguous"


@pytest.mark.parametrize("first", [LATER, LATER + 500])
def test_of_one_set_with_two_ends_the_later_counts(shelf: ReferenceShelf, first: float) -> None:
    """It was signed anew, and comes in whatever order."""
    for end in (first, 2 * LATER + 500 - first):
        shelf.take(replace(a_set(2), not_after=end).sign(KEY), NOW)
    assert shelf.sets == (PROVISIONED, replace(a_set(2), not_after=LATER + 500))


def test_rejects_foreign_key(shelf: ReferenceShelf) -> None:
    assert refused(shelf, a_set(2).sign(OTHER)) == "wrong-key"


def test_rejects_altered_set(shelf: ReferenceShelf) -> None:
    assert refused(shelf, a_set(2).sign(KEY).replace(b"image", b"imago")) == "bad-signature"


def test_rejects_expired_set(shelf: ReferenceShelf) -> None:
    assert refused(shelf, a_set(2).sign(KEY), LATER + 1) == "expired"


def test_rejects_document_of_another_kind(shelf: ReferenceShelf) -> None:
    assert refused(shelf, PortMap(2, ()).sign(LATER, KEY)) == "wrong-kind"
