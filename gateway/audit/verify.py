"""Verify an audit record: the chain, its signed heads, the TPM's counter, and heads that others remember."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from authn.public_area import AttestationKey
from gateway.audit.chain import Record, first_break
from gateway.audit.heads import SignedHead
from gateway.audit.spool import read_heads, read_records

AUDIT_RECORD_LOST = "audit-record-lost"


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head that somebody else was told of: a peer, an operator's note."""

    source: str
    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the record."""

    code: str
    message: str


def verify_audit(
    path: Path, key: AttestationKey, nv_counter: int | None, known: Sequence[KnownHead]
) -> tuple[int, list[Finding]]:
    """Return the number of records and everything that is wrong with them.

    `nv_counter` is the TPM's counter as read now; None when the TPM can't be asked.
    """
    if not path.exists():
        return 0, [Finding("deleted", f"{path} does not exist")]
    try:
        records, heads = list(read_records(path)), read_heads(path)
        findings = _noticed_losses(records)
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        return 0, [Finding("unreadable", f"{path} can't be read: {error}")]
    if broken := first_break(records):
        findings.append(Finding("broken-chain", broken[1]))
    hashes = {record.sequence: record.hash for record in records}
    for head in heads:
        findings += _check_head(head, hashes, key)
    findings += _check_counter(heads, nv_counter)
    findings += [
        Finding(
            "contradicts-witness", f"{head.source} was told of another record {head.sequence}, or it is gone"
        )
        for head in known
        if head.sequence and hashes.get(head.sequence) != head.hash
    ]
    return len(records), findings


def _check_head(head: SignedHead, hashes: dict[int, bytes], key: AttestationKey) -> list[Finding]:
    if not head.signed_by(key):
        return [Finding("foreign-head", f"head {head.counter} is not signed by this gateway's TPM")]
    if head.sequence and hashes.get(head.sequence) != head.hash:
        return [Finding("truncated", f"the TPM signed record {head.sequence}, which is gone or differs")]
    return []


def _check_counter(heads: Sequence[SignedHead], nv_counter: int | None) -> list[Finding]:
    """The newest head must carry the counter's value, or the one before (a kill between signing and saving)."""
    newest = heads[-1].counter if heads else 0
    if nv_counter is None or not counter_lost(nv_counter, newest):
        return []
    return [_restored(nv_counter, newest)]


def counter_lost(nv_counter: int, newest: int) -> bool:
    """Tell whether the TPM signed heads that are not here; one may be lost between signing and saving."""
    return nv_counter - newest not in (0, 1)


def newest_counter(path: Path) -> int:
    """Return the counter of the newest head that is kept, 0 without one."""
    heads = read_heads(path)
    return heads[-1].counter if heads else 0


def _restored(signed: int, newest: int, when: str = "") -> Finding:
    return Finding(
        "restored",
        f"{when}the TPM signed {signed} heads, the newest here is {newest}: an older copy was restored",
    )


def _noticed_losses(records: Sequence[Record]) -> list[Finding]:
    """What the service itself found when it started."""
    found = []
    for record in records:
        body = json.loads(record.body)
        if isinstance(body, dict) and body.get("metadata", {}).get("event_code") == AUDIT_RECORD_LOST:
            lost = body["unmapped"]
            found.append(_restored(lost["signed"], lost["newest"], f"at start, record {record.sequence}: "))
    return found
