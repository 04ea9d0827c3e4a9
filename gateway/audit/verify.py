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
from gateway.audit.kept import (
    Base,
    last_sequence,
    newest_head,
    read_base,
    reading,
    stream_heads,
    stream_records,
)
from gateway.errors import GatewayError

RESTORED = "restored"

AUDIT_RECORD_LOST, AUDIT_PRUNED = "audit-record-lost", "audit-pruned"


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

    `nv_counter` is the TPM's counter as read now; None when the TPM can't be asked. Of records that an operator took
    away (`audit-pruned`) nothing is said; where the rest begins has to be on record. While it reads nobody may prune.
    """
    if not path.exists():
        return 0, [Finding("deleted", f"{path} does not exist")]
    try:
        with reading(path) as reader:
            base, newest, last = read_base(reader), newest_head(reader), last_sequence(reader)
            # from here on piece by piece: as long as one transaction reads, the journal of all that is written meanwhile grows
            reader.execute("COMMIT")
            heads = _Heads(_up_to(newest, reader), key, base)
            walk = _Walk(base, heads, {one.sequence for one in known})
            broken = walk.through(stream_records(reader, base.sequence, last))
    except GatewayError as error:
        return 0, [Finding("unreadable", error.message)]
    except (ValueError, KeyError, TypeError) as error:
        return 0, [Finding("unreadable", f"{path} can't be read: {error}")]
    findings = walk.losses
    if broken:
        findings.append(Finding("broken-chain", broken))
    if base.sequence and not walk.beginning_on_record:
        gone = f"records up to {base.sequence} are gone, and no record says who took them away"
        findings.append(Finding("cut-unrecorded", gone))
    findings += heads.findings
    if nv_counter is not None and counter_lost(nv_counter, heads.newest):
        findings.append(_restored(nv_counter, heads.newest))
    findings += [
        Finding(
            "contradicts-witness", f"{head.source} was told of another record {head.sequence}, or it is gone"
        )
        for head in known
        if head.sequence >= max(1, base.sequence) and walk.hashes.get(head.sequence) != head.hash
    ]
    return walk.count, findings


def _up_to(newest: SignedHead | None, reader: sqlite3.Connection) -> Iterator[SignedHead]:
    """Read the heads up to one that was the newest: it may go meanwhile, for a newer one."""
    if newest is not None:
        yield from stream_heads(reader, newest.counter)
        yield newest


def counter_lost(nv_counter: int, newest: int) -> bool:
    """Tell whether the TPM signed heads that are not here; one may be lost between signing and saving."""
    return nv_counter - newest not in (0, 1)


def _restored(signed: int, newest: int, when: str = "") -> Finding:
    return Finding(
        RESTORED,
        f"{when}the TPM signed {signed} heads, the newest here is {newest}: an older copy was restored",
    )


class _Heads:
    """The signed heads, met in their order by the records: neither has to fit into memory."""

    def __init__(self, heads: Iterator[SignedHead], key: AttestationKey, base: Base) -> None:
        self._heads, self._key, self._base = heads, key, base
        self.findings: list[Finding] = []
        self.newest = 0
        self._next = self._advance()
        self.meet(base.sequence, base.hash)

    def meet(self, sequence: int, digest: bytes) -> None:
        """Compare what was signed up to this record."""
        while self._next is not None and self._next.sequence <= sequence:
            self._compare(self._next, digest if self._next.sequence == sequence else None)
            self._next = self._advance()

    def end(self) -> None:
        """Note the heads of records that are not there."""
        while self._next is not None:
            self._compare(self._next, None)
            self._next = self._advance()

    def _advance(self) -> SignedHead | None:
        """Return the next head that is ours; others are a finding, and stand in nobody's way."""
        for head in self._heads:
            self.newest = head.counter
            if head.signed_by(self._key):
                return head
            text = f"head {head.counter} is not signed by this gateway's TPM"
            self.findings.append(Finding("foreign-head", text))
        return None

    def _compare(self, head: SignedHead, digest: bytes | None) -> None:
        if head.sequence >= max(1, self._base.sequence) and digest != head.hash:
            text = f"the TPM signed record {head.sequence}, which is gone or differs"
            self.findings.append(Finding("truncated", text))


@dataclass(slots=True)
class _Walk:
    """One reading of the whole record, which may be larger than memory. `wanted` are the records whose hash is kept."""

    base: Base
    heads: _Heads
    wanted: set[int]
    count: int = 0
    beginning_on_record: bool = False
    hashes: dict[int, bytes] = field(default_factory=dict)
    losses: list[Finding] = field(default_factory=list)

    def through(self, records: Iterable[Record]) -> str | None:
        """Read them all; return where the chain breaks."""
        self.hashes[self.base.sequence] = self.base.hash
        noted = self._note(records)
        broken = first_break(noted, self.base.sequence, self.base.hash)
        deque(noted, maxlen=0)  # what comes after the break counts too
        self.heads.end()
        return broken[1] if broken else None

    def _note(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            self.count += 1
            if record.sequence in self.wanted:
                self.hashes[record.sequence] = record.hash
            self.heads.meet(record.sequence, record.hash)
            self._note_own_words(record)
            yield record

    def _note_own_words(self, record: Record) -> None:
        """Note what the service itself found when it started, and what it took away for an operator."""
        body = json.loads(record.body)
        code = body.get("metadata", {}).get("event_code") if isinstance(body, dict) else None
        if code == AUDIT_RECORD_LOST:
            lost = body["unmapped"]
            self.losses.append(
                _restored(lost["signed"], lost["newest"], f"at start, record {record.sequence}: ")
            )
        elif code == AUDIT_PRUNED:
            said = body["unmapped"]["through"], body["unmapped"]["hash"]
            self.beginning_on_record |= said == (self.base.sequence, self.base.hash.hex())
