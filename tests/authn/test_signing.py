"""Signed documents: only what a known key signed for this kind, in time, is taken."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import DocumentError, key_id, sign_document, verify_document

KEY = Ed25519PrivateKey.generate()


PUBLIC = KEY.public_key().public_bytes_raw()


KEYS = {key_id(PUBLIC): PUBLIC}


DOCUMENT = sign_document("thing", 1, 100.0, {"a": 1}, KEY)


def test_a_signed_document_verifies() -> None:
    assert verify_document(DOCUMENT, "thing", KEYS, 99.0).payload == {"a": 1}


def refused(code: str) -> "pytest.RaisesExc[DocumentError]":
    return pytest.raises(DocumentError, check=lambda error: error.code == code)


def test_rejects_expired() -> None:
    with refused("expired"):
        verify_document(DOCUMENT, "thing", KEYS, 101.0)


def test_rejects_wrong_kind() -> None:
    with refused("wrong-kind"):
        verify_document(DOCUMENT, "other", KEYS, 1.0)


def test_rejects_bad_signature() -> None:
    for old, new in (
        (b'"a":1', b'"a":2'),
        (b'"not_after":100.0', b'"not_after":900.0'),
        (b'"thing"', b'"thong"'),
    ):
        with refused("bad-signature"):
            verify_document(DOCUMENT.replace(old, new), "thing", KEYS, 1.0)


def test_rejects_wrong_key() -> None:
    foreign = sign_document("thing", 1, 100.0, {}, Ed25519PrivateKey.generate())
    with refused("wrong-key"):
        verify_document(foreign, "thing", KEYS, 1.0)


@pytest.mark.parametrize(
    "raw", [b"{}", b"\xff", b"[" * 100000, DOCUMENT[:-1], DOCUMENT.replace(b'"version":1', b'"version":true')]
)
def test_rejects_malformed(raw: bytes) -> None:
    with refused("malformed"):
        verify_document(raw, "thing", KEYS, 1.0)


@pytest.mark.parametrize("where", ["kind", "payload", "a name in it", "key"])
def test_rejects_half_of_a_surrogate_pair_as_malformed(where: str) -> None:
    """JSON has a way to write it and UTF-8 has none: nobody can have signed it."""
    outer = json.loads(DOCUMENT)
    match where:
        case "kind":
            outer["document"]["kind"] = "\ud800"
        case "payload":
            outer["document"]["payload"] = {"a": ["\udfff"]}
        case "a name in it":
            outer["document"]["payload"] = {"\udc00": 1}
        case _:
            outer["key"] = "\ud800"
    with refused("malformed"):
        verify_document(json.dumps(outer).encode(), "thing", KEYS, 1.0)


def test_takes_text_in_any_language() -> None:
    payload = {"a": "Gr\u00fc\u00dfe \U0001f511", "\u540d": "\u0000"}
    document = sign_document("thing", 1, 100.0, payload, KEY)
    escaped = json.dumps(json.loads(document)).encode()  # a whole pair, each half escaped
    for one in (document, escaped):
        assert verify_document(one, "thing", KEYS, 1.0).payload == payload
