"""Sign and verify the documents that are trusted by signature, not by where they lie (Ed25519, RFC 8032).

A document is JSON: `{"document": {kind, version, not_after, payload}, "key": id, "signature": hex}`. The
signature covers the canonical form (sorted keys, no spaces) of `document`.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from authn.errors import AuthnError

MAX_DOCUMENT = 4 << 20
MAX_VERSION = (1 << 63) - 1
CONTEXT = b"quotegate/1 document\0"
AT_ANY_TIME = -math.inf  # for `now`: every document holds then


class DocumentError(AuthnError):
    """A signed document is refused; nothing of it was used."""


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A document whose signature, kind and date were checked."""

    kind: str
    version: int
    not_after: float
    payload: dict[str, Any]
    digest: str


def key_id(public: bytes) -> str:
    """Name a key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def canonical(value: object) -> bytes:
    """Encode JSON so that equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sign_document(
    kind: str, version: int, not_after: float, payload: dict[str, Any], key: Ed25519PrivateKey
) -> bytes:
    """Sign a document; `not_after` is in seconds since the epoch."""
    document = {"kind": kind, "version": version, "not_after": not_after, "payload": payload}
    signature = key.sign(CONTEXT + canonical(document))
    name = key_id(key.public_key().public_bytes_raw())
    return canonical({"document": document, "key": name, "signature": signature.hex()})


def verify_document(untrusted: bytes, kind: str, keys: Mapping[str, bytes], now: float) -> SignedDocument:
    """Return a document of this kind signed by one of `keys` and not expired; raises DocumentError."""
    document, name, signature = _parse(untrusted)
    if name not in keys:
        raise DocumentError("wrong-key", f"signed by key {name}, expected one of {sorted(keys)}", got=name)
    try:
        Ed25519PublicKey.from_public_bytes(keys[name]).verify(signature, CONTEXT + canonical(document))
    except InvalidSignature:
        raise DocumentError(
            "bad-signature", f"the signature of key {name} does not fit: the document was altered"
        ) from None
    if document["kind"] != kind:
        raise DocumentError("wrong-kind", f"expected a {kind} document, got {document['kind']}")
    if now > document["not_after"]:
        raise DocumentError("expired", f"the {kind} document expired {now - document['not_after']:.0f} s ago")
    digest = hashlib.sha256(canonical(document)).hexdigest()
    return SignedDocument(kind, document["version"], document["not_after"], document["payload"], digest)


def renew_document(
    signed: bytes, kind: str, keys: Mapping[str, bytes], not_after: float, key: Ed25519PrivateKey
) -> bytes:
    """Sign a document of this kind, signed by one of `keys`, with another end; raises DocumentError, not for its age."""
    found = verify_document(signed, kind, keys, AT_ANY_TIME)
    return sign_document(kind, found.version, not_after, found.payload, key)


def _parse(untrusted: bytes) -> tuple[dict[str, Any], str, bytes]:
    try:
        if len(untrusted) > MAX_DOCUMENT:
            raise ValueError(f"larger than {MAX_DOCUMENT} bytes")
        outer = json.loads(untrusted)
        document, name, signature = outer["document"], outer["key"], bytes.fromhex(outer["signature"])
        well_formed = (
            isinstance(name, str)
            and isinstance(document["kind"], str)
            and type(document["version"]) is int
            and 0 <= document["version"] <= MAX_VERSION
            and type(document["not_after"]) in (int, float)
            and math.isfinite(document["not_after"])
            and isinstance(document["payload"], dict)
            and set(document) == {"kind", "version", "not_after", "payload"}
        )
        canonical([document, name])  # JSON takes half of a surrogate pair, UTF-8 does not
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DocumentError("malformed", f"not a signed document: {error}") from error
    if not well_formed:
        raise DocumentError(
            "malformed", "not a signed document: a field is missing, extra or of the wrong type"
        )
    return document, name, signature
