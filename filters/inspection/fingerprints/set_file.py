"""Write and read a set as bytes. docs/inspection.md has the format; there is one encoding of every set."""

import hashlib
import json
import struct
from typing import Any, Final

import numpy as np

from filters.inspection.fingerprints.parameters import LEAST
from filters.inspection.fingerprints.print_set import (
    MOST_DOCUMENTS,
    NAME,
    SECRET,
    Document,
    FingerprintError,
    PrintSet,
)

MAGIC: Final = b"QGPRINTS"
VERSION: Final = 1
MOST_BYTES: Final = 64 << 20  # of a set: some 130 MB of documents; no file of an operator's is larger
_FIXED: Final = struct.Struct("<8sII")  # magic, version, length of the header
_DIGEST: Final = 32
_FACTS: Final = {"added": int, "common": bool, "fragments": int, "name": str, "recognised": int, "size": int}


def encode(prints: PrintSet) -> bytes:
    """Write a set."""
    header = _header(prints.secret, [_facts(one) for one in prints.documents])
    arrays = [one.prints.astype("<u8").tobytes() for one in prints.documents]
    body = b"".join((_FIXED.pack(MAGIC, VERSION, len(header)), header, *arrays))
    return body + hashlib.sha256(body).digest()


def parse(untrusted_set: bytes) -> PrintSet:
    """Read a set; raises FingerprintError, which says what was expected and what came."""
    header, rest = _split(untrusted_set)
    data = _json(header)
    if set(data) != {"documents", "secret"} or not isinstance(data["documents"], list):
        raise _refused("expected `documents` and `secret` in the header")
    secret = _secret(data["secret"])
    if len(data["documents"]) > MOST_DOCUMENTS:
        raise _refused(f"expected at most {MOST_DOCUMENTS} documents; got {len(data['documents'])}")
    facts = [_checked(one) for one in data["documents"]]
    if len({one["name"] for one in facts}) < len(facts):
        raise _refused("two documents have one name")
    if _header(secret, facts) != header:
        raise _refused("expected the header in its one form: keys in order, no blanks")
    expected = 8 * sum(one["fragments"] for one in facts)
    if len(rest) != expected:
        raise _refused(f"expected {expected} bytes of fingerprints, as the header says; got {len(rest)}")
    documents, at = [], 0
    for one in facts:
        documents.append(_document(one, rest[at : at + 8 * one["fragments"]]))
        at += 8 * one["fragments"]
    return PrintSet(secret, tuple(documents))


def _split(data: bytes) -> tuple[bytes, memoryview]:
    if len(data) < _FIXED.size + _DIGEST:
        raise _refused(f"expected at least {_FIXED.size + _DIGEST} bytes; got {len(data)}")
    magic, version, length = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise _refused(f"expected a file that `quotegate fingerprint add` made; it begins with {magic!r}")
    if version != VERSION:
        raise _refused(f"expected version {VERSION}; got {version}: make the set anew with this release")
    view = memoryview(data)
    if hashlib.sha256(view[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise _refused("its checksum is wrong: it was damaged or cut off; restore it, or make the set anew")
    if length > len(data) - _FIXED.size - _DIGEST:
        raise _refused(f"expected a header of {length} bytes; the file is shorter")
    start = _FIXED.size + length
    return data[_FIXED.size : start], view[start:-_DIGEST]


def _json(header: bytes) -> dict[str, Any]:
    try:
        data = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise _refused("expected a header in JSON") from error
    if not isinstance(data, dict):
        raise _refused(f"expected an object as header; got {type(data).__name__}")
    return data


def _secret(value: object) -> bytes:
    try:
        secret = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        secret = b""
    if len(secret) != SECRET:
        raise _refused(f"secret: expected {SECRET} bytes in hexadecimal")
    return secret


def _checked(facts: object) -> dict[str, Any]:
    if not isinstance(facts, dict) or set(facts) != set(_FACTS):
        raise _refused(f"expected for each document {', '.join(_FACTS)}")
    for key, kind in _FACTS.items():
        value = facts[key]
        if type(value) is not kind:
            raise _refused(f"{key}: expected {kind.__name__}; got {type(value).__name__}")
        if isinstance(value, int) and not 0 <= value < 1 << 62:
            raise _refused(f"{key}: expected a number of 0 or more; got {value}")
    if not NAME.fullmatch(facts["name"]):
        raise _refused(f"name: expected small letters, digits, dots, - and _; got {facts['name'][:80]!a}")
    if facts["fragments"] < LEAST or facts["recognised"] > 1000:
        raise _refused(
            f"{facts['name']}: expected at least {LEAST} fragments, and at most 1000 in `recognised`"
        )
    return facts


def _document(facts: dict[str, Any], packed: memoryview) -> Document:
    prints = np.frombuffer(packed, "<u8").astype(np.uint64)
    if (prints[1:] <= prints[:-1]).any():
        raise _refused(f"{facts['name']}: expected fingerprints in order, each once")
    name, size, added = facts["name"], facts["size"], facts["added"]
    return Document(name, size, added, facts["common"], facts["recognised"], prints)


def _facts(one: Document) -> dict[str, object]:
    return {
        "added": one.added,
        "common": one.common,
        "fragments": len(one.prints),
        "name": one.name,
        "recognised": one.recognised,
        "size": one.size,
    }


def _header(secret: bytes, documents: list[dict[str, Any]]) -> bytes:
    data = {"documents": documents, "secret": secret.hex()}
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def _refused(problem: str) -> FingerprintError:
    return FingerprintError("fingerprint-set", problem)
