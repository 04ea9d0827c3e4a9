"""Signed documents: only what a known key signed for this kind, in time, is taken."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import DocumentError, key_id, sign_document, verify_document

KEY = Ed25519PrivateKey.generate()


PUBLIC = KEY.public_key().public_bytes_raw()


KEYS = {key_id(PUBLIC): PUBLIC}


DOCUMENT = sign_document("thing", 1, 100.0, {"a": 1}, KEY)


def test_a_signed_document_verifies() -> None:
    assert verify_document(DOCUMENT, "thing", KEYS, 99.0).payload == {"a": 1}


@pytest.mark.parametrize(
    ("raw", "kind", "now", "code"),
    [
        (DOCUMENT, "thing", 101.0, "expired"),
        (DOCUMENT, "other", 1.0, "wrong-kind"),
        (DOCUMENT.replace(b'"a":1', b'"a":2'), "thing", 1.0, "bad-signature"),
        (DOCUMENT.replace(b'"not_after":100.0', b'"not_after":900.0'), "thing", 1.0, "bad-signature"),
        (sign_document("thing", 1, 100.0, {}, Ed25519PrivateKey.generate()), "thing", 1.0, "wrong-key"),
        (b"{}", "thing", 1.0, "malformed"),
        (b"\xff", "thing", 1.0, "malformed"),
        (b"[" * 100000, "thing", 1.0, "malformed"),
    ],
)
def test_rejects_a_document(raw: bytes, kind: str, now: float, code: str) -> None:
    with pytest.raises(DocumentError) as caught:
        verify_document(raw, kind, KEYS, now)
    assert caught.value.code == code
