"""Chain records by hash, so that none can be changed, taken out or put in unseen. Pure."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class Record:
    """One audit record: its number (from 1), its canonical JSON and the chain's hash after it."""

    sequence: int
    body: bytes
    hash: bytes


def record_hash(previous: bytes, sequence: int, body: bytes) -> bytes:
    """Return the chain's hash after a record."""
    return hashlib.sha256(b"quotegate/1 audit\0" + previous + sequence.to_bytes(8, "big") + body).digest()


def first_break(
    records: Iterable[Record], after: int = 0, previous: bytes = GENESIS
) -> tuple[int, str] | None:
    """Return the number of the first record that does not fit, and why; None when all do.

    `after` and `previous`: the number and the chain's hash of the record before the first.
    """
    expected = after + 1
    for record in records:
        if record.sequence != expected:
            return expected, f"record {expected} is missing"
        if record_hash(previous, record.sequence, record.body) != record.hash:
            return record.sequence, f"record {record.sequence} was changed"
        previous, expected = record.hash, expected + 1
    return None
