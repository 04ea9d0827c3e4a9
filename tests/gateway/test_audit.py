"""The audit record: durable when acknowledged, chained, sealed; every kind of loss shows."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from authn import labels
from authn.pcr import PcrSelection
from authn.public_area import AttestationKey
from authn.tpm import Tpm
from gateway.audit.chain import first_break
from gateway.audit.heads import SignedHead
from gateway.audit.kept import reading, stream_records
from gateway.audit.spool import AuditSpool
from gateway.audit.verify import KnownHead, verify_audit
from gateway.errors import GatewayError

SELECTION = PcrSelection.of([4])


def write(path: Path, tpm: Tpm, count: int) -> list[KnownHead]:
    """Write records and sign the head twice, as the service does."""

    async def run() -> list[KnownHead]:
        spool, known = AuditSpool(path), []
        for part in range(2):
            await asyncio.gather(*(spool.append(lambda number: {"n": number}) for _ in range(count)))
            sequence, digest = spool.head
            counter = tpm.increment_counter()
            quote = tpm.quote(SELECTION, labels.audit_head(sequence, digest, counter))
            spool.save_head(SignedHead(sequence, digest, counter, quote, part))
            known.append(KnownHead("web", sequence, digest))
        spool.close()
        return known

    return asyncio.run(run())


def codes(path: Path, key: AttestationKey, tpm: Tpm, known: list[KnownHead]) -> set[str]:
    return {finding.code for finding in verify_audit(path, key, tpm.read_counter(), known)[1]}


@pytest.mark.tpm
def test_an_untouched_record_is_intact(tmp_path: Path, tpm: Tpm, key: AttestationKey) -> None:
    known = write(tmp_path / "a.db", tpm, 20)
    assert verify_audit(tmp_path / "a.db", key, tpm.read_counter(), known) == (40, [])


@pytest.mark.tpm
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE record SET body = x'7b7d' WHERE sequence = 5", "broken-chain"),
        ("DELETE FROM record WHERE sequence = 5", "broken-chain"),
        ("DELETE FROM record WHERE sequence > 30", "truncated"),
        ("DELETE FROM head", "restored"),
        ("DELETE FROM head WHERE counter = (SELECT max(counter) FROM head)", None),
        ("DROP TABLE record", "unreadable"),
    ],
)
def test_damage_shows(
    tmp_path: Path, tpm: Tpm, key: AttestationKey, damage: str, expected: str | None
) -> None:
    path = tmp_path / "a.db"
    known = write(path, tpm, 20)
    with sqlite3.connect(path) as database:
        database.execute(damage)
    database.close()
    found = codes(path, key, tpm, known)
    assert (expected in found) if expected else found == set()


@pytest.mark.tpm
def test_a_restored_older_copy_shows(tmp_path: Path, tpm: Tpm, key: AttestationKey) -> None:
    old = tmp_path / "old.db"
    write(old, tpm, 5)
    newer = write(tmp_path / "new.db", tpm, 9)
    assert codes(old, key, tpm, []) == {"restored"}
    assert codes(old, key, tpm, newer) == {"restored", "contradicts-witness"}


@pytest.mark.tpm
def test_a_deleted_file_shows(tmp_path: Path, tpm: Tpm, key: AttestationKey) -> None:
    assert codes(tmp_path / "none.db", key, tpm, []) == {"deleted"}


@pytest.mark.tpm
def test_a_foreign_head_shows(tmp_path: Path, tpm: Tpm, key: AttestationKey) -> None:
    path = tmp_path / "a.db"
    write(path, tpm, 5)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE head SET body = replace(body, '\"time_ms\": 0', '\"time_ms\": 0') ")
        text = database.execute("SELECT body FROM head LIMIT 1").fetchone()[0]
        head = SignedHead.from_json(text)
        forged = SignedHead(head.sequence, head.hash, head.counter + 5, head.quote, 0)
        database.execute("INSERT INTO head VALUES (?, ?)", (forged.counter, forged.to_json()))
    database.close()
    assert "foreign-head" in codes(path, key, tpm, [])


WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.audit.spool import AuditSpool
async def main():
    spool = AuditSpool(Path(sys.argv[1]))
    while True:
        done = await asyncio.gather(*(spool.append(lambda n: {"n": n}) for _ in range(7)))
        print(max(record.sequence for record in done), flush=True)
asyncio.run(main())
"""


def test_acknowledged_records_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=Path.cwd()
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(random.random() / 5)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = int(([first, *writer.stdout.readlines()])[-1])
        writer.wait()
        with reading(path) as reader:
            records = list(stream_records(reader, 0, 1 << 62))
        assert first_break(records) is None
        assert len(records) >= acknowledged


def test_rejects_an_event_that_is_no_json_and_goes_on(tmp_path: Path) -> None:
    """The thread that writes must not die of it: nobody would ever be answered again."""

    async def story() -> int:
        spool = AuditSpool(tmp_path / "a.db")
        try:
            async with asyncio.timeout(5):
                with pytest.raises(GatewayError, match="can't be written"):
                    await spool.append(lambda _: {"n": object()})
                return (await spool.append(lambda number: {"n": number})).sequence
        finally:
            spool.close()

    assert asyncio.run(story()) == 1
