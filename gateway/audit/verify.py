"""Verify an audit record: the chain, its signed heads, the TPM's counter, and heads that others remember."""

import json
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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
        heads = read_heads(path)  # first: what a head signed is on record before it
        walk = _Walk({one.sequence for one in heads} | {one.sequence for one in known})
        broken = walk.through(read_records(path))
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        return 0, [Finding("unreadable", f"{path} can't be read: {error}")]
    findings, hashes = walk.losses, walk.hashes
    if broken:
        findings.append(Finding("broken-chain", broken))
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
    return walk.count, findings


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


@dataclass(slots=True)
class _Walk:
    """One reading of the whole record, which may be larger than memory. `wanted` are the records whose hash is kept."""

    wanted: set[int]
    count: int = 0
    hashes: dict[int, bytes] = field(default_factory=dict)
    losses: list[Finding] = field(default_factory=list)

    def through(self, records: Iterable[Record]) -> str | None:
        """Read them all; return where the chain breaks."""
        noted = self._note(records)
        broken = first_break(noted)
        deque(noted, maxlen=0)  # what comes after the break counts too
        return broken[1] if broken else None

    def _note(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            self.count += 1
            if record.sequence in self.wanted:
                self.hashes[record.sequence] = record.hash
            self._note_loss(record)
            yield record

    def _note_loss(self, record: Record) -> None:
        """Note what the service itself found when it started."""
        body = json.loads(record.body)
        if isinstance(body, dict) and body.get("metadata", {}).get("event_code") == AUDIT_RECORD_LOST:
            lost = body["unmapped"]
            self.losses.append(
                _restored(lost["signed"], lost["newest"], f"at start, record {record.sequence}: ")
            )
