"""What is kept of the record: read it as it is at one moment, and take away what an operator has elsewhere."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authn.public_area import AttestationKey
from gateway.audit.chain import GENESIS, Record
from gateway.audit.heads import SignedHead
from gateway.errors import GatewayError

AT_ONCE = 2000  # records, or heads, that one transaction takes away or reads: others write in between


@dataclass(frozen=True, slots=True)
class Base:
    """Where the record that is kept begins: after this record, whose chain hash this is. 0: nothing was taken away."""

    sequence: int = 0
    hash: bytes = GENESIS


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the record as it is now; what is written meanwhile does not show. Raises GatewayError `audit-failed`."""
    where = f"file:{path}?mode=ro"
    with _said(path, "read"), closing(sqlite3.connect(where, uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        yield reader


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the record to write beside the spool's own writer, each transaction durable. Raises GatewayError `audit-failed`."""
    where = f"file:{path}?mode=rw"
    with _said(path, "written"), closing(sqlite3.connect(where, uri=True, timeout=5)) as writer:
        writer.execute("PRAGMA synchronous=FULL")
        yield writer


@contextmanager
def _said(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise GatewayError("audit-failed", f"{path}: the audit record can't be {what}: {error}") from error


def read_base(reader: sqlite3.Connection) -> Base:
    """Return where the record begins."""
    row = reader.execute("SELECT sequence, hash FROM base").fetchone()
    return Base(int(row[0]), bytes(row[1])) if row else Base()


def last_sequence(reader: sqlite3.Connection) -> int:
    """Return the number of the last record, 0 without one."""
    (last,) = reader.execute("SELECT max(sequence) FROM record").fetchone()
    return int(last or 0)


def stream_records(reader: sqlite3.Connection, after: int, through: int) -> Iterator[Record]:
    """Read the records after a number and up to another, piece by piece."""
    for row in _stream(reader, "SELECT sequence, body, hash FROM record", "sequence", after, through):
        yield Record(*row)


def stream_heads(reader: sqlite3.Connection, below: int) -> Iterator[SignedHead]:
    """Read the signed heads whose counter is below a number, oldest first; what is no head raises ValueError or KeyError."""
    for _, body in _stream(reader, "SELECT counter, body FROM head", "counter", 0, below - 1):
        yield SignedHead.from_json(body)


def _stream(
    reader: sqlite3.Connection, select: str, number: str, after: int, through: int
) -> Iterator[tuple[Any, ...]]:
    """Read rows by their number, which is their first column; none of it keeps a transaction open."""
    query = f"{select} WHERE {number} > ? AND {number} <= ? ORDER BY {number} LIMIT {AT_ONCE}"
    while rows := reader.execute(query, (after, through)).fetchall():
        yield from rows
        after = rows[-1][0]


def newest_counter(path: Path) -> int:
    """Return the counter of the newest head that is kept, 0 without one."""
    with reading(path) as reader:
        (newest,) = reader.execute("SELECT max(counter) FROM head").fetchone()
        return int(newest or 0)


def newest_head(reader: sqlite3.Connection) -> SignedHead | None:
    """Return the newest head that is kept; raises ValueError or KeyError."""
    row = reader.execute("SELECT body FROM head ORDER BY counter DESC LIMIT 1").fetchone()
    return SignedHead.from_json(row[0]) if row else None


def check_prunable(path: Path, key: AttestationKey, through: int, digest: bytes) -> None:
    """Refuse to take away what the caller has not read, or no TPM has signed; raises GatewayError `not-prunable`."""
    with reading(path) as reader:
        base, head = read_base(reader), newest_head(reader)
        row = reader.execute("SELECT hash FROM record WHERE sequence = ?", (through,)).fetchone()
    if through <= base.sequence:
        raise _not_prunable(f"records up to {base.sequence} are gone already, expected a later one")
    if row is None or bytes(row[0]) != digest:
        raise _not_prunable(f"record {through} is not here or has another hash; run: quotegate audit verify")
    if head is None or not head.signed_by(key) or head.sequence < through:
        raise _not_prunable(f"no head that this gateway's TPM signed covers record {through}")


def _not_prunable(why: str) -> GatewayError:
    return GatewayError("not-prunable", f"nothing was taken away: {why}")


def prune(path: Path, base: Base) -> None:
    """Let the record begin after `base`; what is older is taken away, step by step."""
    with writing(path) as writer:
        with writer:
            writer.execute("INSERT OR REPLACE INTO base VALUES (1, ?, ?)", (base.sequence, base.hash))
        take_away(writer, base)
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the long part; nobody waits for it
        writer.execute("PRAGMA busy_timeout=0")  # nor for a reader who keeps the journal from being cut
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def take_away(writer: sqlite3.Connection, base: Base) -> None:
    """Delete what is older than the beginning; also what an earlier call, cut short, left."""
    if not base.sequence:
        return
    writer.execute("PRAGMA secure_delete=OFF")  # zeros over all of it would first fill the journal
    for step in (
        "DELETE FROM record WHERE sequence IN (SELECT sequence FROM record WHERE sequence <= ? LIMIT ?)",
        # the oldest ones: there was a time when a head was kept for every second
        "DELETE FROM head WHERE json_valid(body) AND json_extract(body, '$.sequence') < ? "
        "AND counter IN (SELECT counter FROM head ORDER BY counter LIMIT ?)",
    ):
        gone = 1
        while gone:
            with writer:
                gone = writer.execute(step, (base.sequence, AT_ONCE)).rowcount
